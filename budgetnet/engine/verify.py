"""Verify: the words and tensors of a checkpoint are what its run would hold, before any of them is used."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.budget import saved_tensors
from budgetnet.engine.training import Training
from budgetnet.files import Checkpoint
from budgetnet.run import Epoch, beyond

ROLES = ("last", "best", "best_of_phase")
"""What weights may be kept as."""
_LABELLED = {"positions": torch.int64, "labels": torch.int64, "confidence": torch.float32}
_HIGHEST, _LONGEST = 2**53, 1e10
"""The largest count, and the longest time in seconds, that a training could come to."""


def check_words(checkpoint: Checkpoint) -> None:
    """Raise BadCheckpoint unless the plain values are of the kinds and within the bounds of a training's."""
    state = checkpoint.state
    # The words were read as JSON, which may hold NaN, numbers of any length and any depth.
    wrong = beyond(dict(state))
    if wrong:
        raise checkpoint.unfit("its state", "plain values as a trainer writes them", f"one that {wrong}")
    for name, (expected, good) in _WORDS.items():
        if name in state and not good(state[name]):
            raise checkpoint.unfit(f"its {name}", expected, state[name])
        if name not in state and name not in _OPTIONAL:
            raise checkpoint.unfit(f"its {name}", expected, "missing")
    if state["step"] != checkpoint.step:
        raise checkpoint.unfit("its step", str(checkpoint.step), state["step"])
    if not all(step < checkpoint.step for step in state.get("undone", [])):
        raise checkpoint.unfit("its undone steps", f"below {checkpoint.step}", state["undone"])
    _check_history(checkpoint)
    if state["phase"] == 0 and (state["done"] or "optimizer" in state or state["history"]):
        raise checkpoint.unfit("its phase", "that of its steps", 0)


def _check_history(checkpoint: Checkpoint) -> None:
    """Epochs are numbered without a gap, phases do not go back, and what is kept is of one of them."""
    state = checkpoint.state
    epochs = []
    for line in (*state["earlier"], *state["history"]):
        try:
            epochs.append(Epoch.read(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise checkpoint.unfit("a line of its history", "an epoch", line) from None
        if epochs[-1].number != len(epochs) or not _plausible(epochs[-1]):
            raise checkpoint.unfit("a line of its history", f"epoch {len(epochs)}", line)
    own = epochs[len(state["earlier"]) :]
    phases = [epoch.phase for epoch in own]
    if phases != sorted(phases) or (phases and phases[-1] > state["phase"]):
        raise checkpoint.unfit("the phases of its history", f"rising up to {state['phase']}", phases)
    numbers = {epoch.number for epoch in own}
    if not set(state["weights"].values()) <= numbers or (own and not state["weights"]):
        raise checkpoint.unfit("its weights", "those of epochs of its history", state["weights"])


def _plausible(epoch: Epoch) -> bool:
    figures = asdict(epoch)
    times = [value for name, value in figures.items() if name.endswith("_seconds")]
    counts = [value for value in figures.values() if isinstance(value, int)]
    return (
        not any(isinstance(value, float) and math.isinf(value) for value in figures.values())
        and all(math.isnan(value) or 0 <= value < _LONGEST for value in times)
        and all(0 <= value < _HIGHEST for value in counts)
        and min(epoch.number, epoch.phase, epoch.epoch, epoch.steps, epoch.session) >= 1
    )


def check_tensors(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Raise BadCheckpoint unless the tensors are those that the run would have saved, and none is missing.

    The optimizer's are looked at by `check_optimizer`, once there is one.
    """
    state, tensors = checkpoint.state, checkpoint.tensors
    own, whole = _kinds(saved_tensors(model)), _kinds(model.state_dict())
    expected = {f"model/{name}": kind for name, kind in own.items()}
    if "averaged" in state:
        expected |= {f"average/{name}": kind for name, kind in own.items()}
    for number in set(state["weights"].values()):
        expected |= {f"weights/{number}/{name}": kind for name, kind in whole.items()}
    if "sums" in tensors:
        expected["sums"] = ((3,), torch.float32)
    if "labelled" in state:
        count = (len(tensors["labelled/labels"]),) if _listed(tensors.get("labelled/labels")) else (0,)
        expected |= {f"labelled/{name}": (count, dtype) for name, dtype in _LABELLED.items()}
    for name, kind in expected.items():
        if name not in tensors:
            raise checkpoint.unfit(f"its tensor {name}", _shown(kind), "missing")
    for name, tensor in tensors.items():
        if name not in expected and not name.startswith(("optimizer/", "hidden/")):
            raise checkpoint.unfit("its tensors", "those of the run", name)
        given = (tuple(tensor.shape), tensor.dtype)
        if expected.get(name, given) != given:
            raise checkpoint.unfit(f"its tensor {name}", _shown(expected[name]), _shown(given))
        if name.startswith("hidden/"):
            continue  # where a mask may be infinite
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise checkpoint.unfit(f"its tensor {name}", "finite", "NaN or infinite")


def check_place(training: Training, checkpoint: Checkpoint) -> None:
    """Raise BadCheckpoint where the training, restored, is where its recipe and data cannot bring it."""
    labelled, pool = training.state.labelled, training.data.unlabelled
    if labelled is not None and len(labelled):
        count, classes = len(pool) if pool is not None else 0, len(training.data.classes)
        if int(labelled.positions[-1]) >= count:
            raise checkpoint.unfit("its pseudo-labels", f"of {count:,} images", int(labelled.positions[-1]))
        if int(labelled.labels.min()) < 0 or int(labelled.labels.max()) >= classes:
            raise checkpoint.unfit("its pseudo-labels", f"of {classes} classes", labelled.labels.tolist()[:9])


Kind = tuple[tuple[int, ...], torch.dtype]


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, Kind]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def _shown(kind: Kind) -> str:
    return f"{str(kind[1]).removeprefix('torch.')} {list(kind[0])}"


def _listed(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.ndim == 1


def _whole(least: int) -> Callable[[Any], bool]:
    def good(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value < _HIGHEST

    return good


def number(value: Any) -> bool:
    """Whether a value out of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def kinds(value: Any) -> set[str]:
    """The kinds of what a value holds, however deep: tensors by dtype and shape, and plain values."""
    if isinstance(value, Tensor):
        return {_shown((tuple(value.shape), value.dtype))}
    if isinstance(value, Mapping):
        return {kind for item in value.values() for kind in kinds(item)}
    if isinstance(value, list | tuple | set | frozenset | deque):
        return {kind for item in value for kind in kinds(item)}
    return {"number" if isinstance(value, int | float) else type(value).__name__}


def _time(value: Any) -> bool:
    return number(value) and 0 <= value < _LONGEST


def _all(kind: type, good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A list, or an object's values, all of which are `good`."""

    def check(value: Any) -> bool:
        if kind is dict:
            return isinstance(value, dict) and all(map(good, value.values()))
        return isinstance(value, list) and all(map(good, value))

    return check


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _clock(value: Any) -> bool:
    if not isinstance(value, dict) or not set(value) <= {"timed", "seconds"}:
        return False
    return _whole(0)(value.get("timed", 0)) and _all(dict, _time)(value.get("seconds", {}))


def _contract(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name, {}), dict) for name in ("recipe", "where", "data", "model", "modules")
    )


def _roles(value: Any) -> bool:
    return _all(dict, _whole(1))(value) and set(value) <= set(ROLES)


def _labelled(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(number, value))


def _steps(value: Any) -> bool:
    return _all(list, _whole(0))(value) and value == sorted(set(value))


def _remembered(value: Any) -> bool:
    by_number = _all(dict, lambda entries: isinstance(entries, dict))(value)
    return by_number and all(at.isascii() and at.isdecimal() and at == str(int(at[:9])) for at in value)


_OPTIONAL = {"clock", "undone", "averaged", "optimizer", "labelled", "hidden"}
_WORDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "contract": ("what the run is of", _contract),
    "phase": ("a whole number", _whole(0)),
    "done": ("a whole number", _whole(0)),
    "step": ("a whole number", _whole(0)),
    "spent": ("seconds", _time),
    "clock": ("seconds of each part", _clock),
    "parts": ("a whole number of 1 or more", _whole(1)),
    "undone": ("rising numbers of steps", _steps),
    "session": ("a whole number of 1 or more", _whole(1)),
    "earlier": ("lines of text", _all(list, _text)),
    "history": ("lines of text", _all(list, _text)),
    "weights": (f"the epochs of {', '.join(ROLES)}", _roles),
    "averaged": ("a whole number", _whole(0)),
    "optimizer": ("values for each parameter's number", _remembered),
    "hidden": ("values by place", _all(dict, lambda _: True)),
    "labelled": ("two numbers", _labelled),
}
