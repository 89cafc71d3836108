"""The exact state of a training between two steps <-> tensors by name and plain values."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.engine.parts import Average
from budgetnet.engine.plain import NotPlain, pack, unpack
from budgetnet.engine.sources import joined
from budgetnet.engine.training import Kept, Training
from budgetnet.engine.unsaved import pack_hidden, read_hidden, remember, restore_hidden
from budgetnet.engine.verify import check_place, check_tensors
from budgetnet.files import Checkpoint
from budgetnet.modelfile import owned
from budgetnet.pseudo import Kept as Labelled
from budgetnet.run import Epoch


class NotSaveable(Exception):
    """A training whose state cannot be written: why."""


def capture(training: Training) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that the rest of the training depends on, apart from its model's making, data and recipe."""
    tensors = _named("model", owned(training.model))
    state: dict[str, Any] = {
        "contract": training.contract,
        "phase": training.phase,
        "done": training.done,
        "step": training.step,
        "spent": training.spent,
        "clock": training.clock.capture(),
        "parts": training.parts,
        "undone": training.undone,
        "session": training.session,
        "earlier": [epoch.line() for epoch in training.earlier],
        "history": [epoch.line() for epoch in training.history],
    }
    if training.sums is not None:
        tensors["sums"] = training.sums
    if training.average is not None:
        tensors |= _named("average", owned(training.average.model))
        state["averaged"] = training.average.updates
    if training.optimizer is not None:
        found, state["optimizer"] = _optimizer(training.optimizer)
        tensors |= found
    try:
        hidden = pack_hidden(training, tensors)
    except NotPlain as reason:
        raise NotSaveable(str(reason)) from None
    if hidden:
        state["hidden"] = hidden
    if training.labelled is not None:
        labelled = training.labelled
        tensors |= {
            "labelled/positions": labelled.positions,
            "labelled/labels": labelled.labels,
            "labelled/confidence": labelled.confidence,
        }
        state["labelled"] = [labelled.threshold, labelled.temperature]
    weights = _weights(training)
    state["weights"] = {role: kept.epoch.number for role, kept in weights.items()}
    for kept in {id(kept): kept for kept in weights.values()}.values():
        tensors |= _named(f"weights/{kept.epoch.number}", kept.state)
    return tensors, state


def restore(training: Training, checkpoint: Checkpoint) -> None:
    """Set a fresh training to what `capture` saw; the optimizer follows once its phase is entered.

    Raises BadCheckpoint for tensors that are not such a training's.
    """
    check_tensors(training.model, checkpoint)
    state, tensors = checkpoint.state, checkpoint.tensors
    _fill(training.model, _of(tensors, "model"))
    training.phase, training.done = int(state["phase"]), int(state["done"])
    training.step, training.spent = int(state["step"]), float(state["spent"])
    training.session, training.parts = int(state["session"]), int(state["parts"])
    training.undone = [int(step) for step in state.get("undone", [])]
    training.earlier = tuple(Epoch.read(line) for line in state["earlier"])
    training.history = [Epoch.read(line) for line in state["history"]]
    training.clock.restore(state.get("clock", {}))
    device = training.engine.device
    training.sums = tensors["sums"].to(device) if "sums" in tensors else None
    if training.recipe.average is not None and "averaged" in state:
        training.average = Average(training.model, training.recipe.average)
        _fill(training.average.model, _of(tensors, "average"))
        training.average.updates = int(state["averaged"])
    if "optimizer" in state:
        training.optimizer_state = {int(at): dict(entries) for at, entries in state["optimizer"].items()}
        for name, tensor in _of(tensors, "optimizer").items():
            at, _, entry = name.partition("/")
            if at not in state["optimizer"]:
                raise checkpoint.unfit("its tensors", "those of the run", f"optimizer/{name}")
            training.optimizer_state[int(at)][entry] = tensor
        _unpack_optimizer(training.optimizer_state, checkpoint)
    if "labelled" in state:
        held = _of(tensors, "labelled")
        try:
            training.labelled = Labelled(
                held["positions"], held["labels"], held["confidence"], *state["labelled"]
            )
        except ValueError as error:
            raise checkpoint.unfit("its pseudo-labels", "what was kept of the images", error) from None
        check_place(training, checkpoint)
    training.train = joined(training)
    numbers = {epoch.number: epoch for epoch in training.history}
    found = {
        number: Kept(_on(_of(tensors, f"weights/{number}"), training.model), numbers[number])
        for number in set(state["weights"].values())
    }
    for role, number in state["weights"].items():
        setattr(training, role, found[number])
    training.unrestored = read_hidden(checkpoint)
    restore_hidden(training, checkpoint)


def restore_optimizer(training: Training) -> None:
    """Give the phase's new optimizer the state that was saved for it, if there is one waiting."""
    saved, optimizer = training.optimizer_state, training.optimizer
    training.optimizer_state = None
    if optimizer is not None:
        remember(training)
    if saved is None or optimizer is None:
        training.unrestored = {}
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {at: {k: _like(parameters[at], v) for k, v in entries.items()} for at, entries in saved.items()}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    restore_hidden(training)


def _like(parameter: Tensor, value: Any) -> Any:
    """A saved tensor in the memory format of its parameter: sums in another order have other bits."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    found = optimizer.state_dict()
    if set(found) != {"state", "param_groups"}:
        more = ", ".join(sorted({"state", "param_groups"} ^ set(found)))
        name = type(optimizer).__name__
        raise NotSaveable(
            f"{name}'s state_dict should hold state and param_groups alone, and differs by {more}"
        )
    for at, entries in found["state"].items():
        values[str(at)] = {}
        for name, held in entries.items():
            try:
                packed = pack(held, f"optimizer/{at}/{name}", tensors)
            except NotPlain as kind:
                raise NotSaveable(f"{type(optimizer).__name__} keeps {kind} in its state") from None
            if not isinstance(held, Tensor):
                values[str(at)][name] = packed
    return tensors, values


def _unpack_optimizer(state: dict[int, dict[str, Any]], checkpoint: Checkpoint) -> None:
    """Make lists and the like of an optimizer's state what they were."""
    for at, entries in state.items():
        for name, held in list(entries.items()):
            if "/" in name:
                del entries[name]  # a tensor within a list, which the list brings
            elif isinstance(held, list | dict):
                try:
                    entries[name] = unpack(held, checkpoint.tensors)
                except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                    what = f"its optimizer's {name} of parameter {at}"
                    raise checkpoint.unfit(what, "plain values", held) from None


def _weights(training: Training) -> dict[str, Kept]:
    """The kept weights that the rest of the run may still ask for, by their role."""
    return {role: getattr(training, role) for role in roles(training) if getattr(training, role)}


def roles(training: Training) -> list[str]:
    """In which roles the rest of the run may still ask for kept weights."""
    recipe = training.recipe
    later = recipe.phases[training.phase :]
    ends = ["best" if recipe.keep == "best" else "last"]
    return [*ends, *(["best_of_phase"] if any(phase.start == "best" for phase in later[:1]) else [])]


def _named(role: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{role}/{name}": tensor for name, tensor in tensors.items()}


def _of(tensors: Mapping[str, Tensor], role: str) -> dict[str, Tensor]:
    """The tensors of one role, without its name before theirs."""
    return {
        name.removeprefix(f"{role}/"): held for name, held in tensors.items() if name.startswith(f"{role}/")
    }


def _fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in owned(model).items():
            tensor.copy_(tensors[name])


def _on(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Saved weights in the places and memory formats of the model's own."""
    own: dict[str, Tensor] = model.state_dict()
    return {
        name: torch.empty_like(own[name], requires_grad=False).copy_(tensor) for name, tensor in state.items()
    }
