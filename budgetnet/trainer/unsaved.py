"""Unsaved: what a training changes beside its tensors and its place, into checkpoints and out of them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.files import Checkpoint
from budgetnet.trainer.hidden import Places, named, set_value, tensors_of
from budgetnet.trainer.measure import trying
from budgetnet.trainer.plain import NotPlain, pack, unpack
from budgetnet.trainer.randomness import own_randomness, reseed
from budgetnet.trainer.training import Training
from budgetnet.trainer.verify import kinds

_WRONG = (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError)


def places(training: Training) -> Places:
    """Where a training may keep what no state_dict holds."""
    average, optimizer, recipe = training.average, training.optimizer, training.recipe
    models = [training.model] if average is None else [training.model, average.model]
    roots: dict[str, Any] = {"model": training.model}
    if average is not None:
        roots["average"] = average.model
    roots["loss"] = recipe.loss
    for number, phase in enumerate(recipe.phases, start=1):
        for at, step in enumerate(phase.augment):
            roots[f"phase {number}.augment.{at}"] = step
    known = list(tensors_of(*models))
    if optimizer is not None:
        roots["optimizer"] = optimizer
        known += [held for entries in optimizer.state.values() for held in _tensors(entries)]
    return Places(roots, known)


def _tensors(entries: Mapping[str, Any]) -> list[Tensor]:
    return [held for held in entries.values() if isinstance(held, Tensor)]


def remember(training: Training) -> None:
    """Take what is there now as what the training, or its new optimizer, begins with."""
    training.hidden.remember(places(training), again=training.optimizer is None)


def pack_hidden(training: Training, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What changed since the beginning, as JSON by place; its tensors go into `tensors`.

    Raises NotPlain for what changes and has no such form, naming it and the way out.
    """
    where = places(training)
    lost = training.hidden.lost(where)
    inner = _inner_optimizer(training.optimizer)
    if lost or inner:
        raise NotPlain(
            f"{named(lost[0]) if lost else inner} changes as the training goes, and is nothing that a "
            "checkpoint can hold; keep numbers, text or tensors there, or a buffer (register_buffer)"
        )
    changes = training.hidden.changes(where)
    return {place: pack(value, f"hidden/{place}", tensors) for place, value in changes.items()}


def check_kept(training: Training, images: Tensor) -> None:
    """Raise ValueError where a step changed what tests depend on and no model file holds.

    `images` are views (B, C, r, r), which the model is given twice: with what changed as it is, and as it was
    before. What only training asks for may change: a checkpoint holds it.
    """
    model, where = training.model, places(training)
    changes = [place for place in training.hidden.changes(where) if place.startswith("model")]
    if not changes:
        return
    after, again = _tested(training, images), _tested(training, images)
    where = places(training)
    training.hidden.put_back(where, [place for place in changes if place in where.values])
    if torch.equal(after, again) and not torch.allclose(after, _tested(training, images), 1e-4, 1e-5):
        path, _, name = changes[0].rpartition("|")
        module = where.owners.get(path)
        buffer = isinstance(module, nn.Module) and name in module._buffers
        way = f"register_buffer({name!r}, ...)" + (" with persistent=True" if buffer else "")
        raise ValueError(
            f"{type(model).__name__} should give in tests what its saved file gives, and "
            f"{named(changes[0]).removeprefix('model.')} changes in training, decides what it gives, and is "
            f"{'a buffer with persistent=False' if buffer else 'no buffer'}, which no model file holds: {way}"
        )


def _tested(training: Training, images: Tensor) -> Tensor:
    device = training.engine.device
    with trying(training.model), own_randomness(device):
        reseed(device, 0)
        return training.engine.forward(training.model, images).float()


def _inner_optimizer(optimizer: torch.optim.Optimizer | None) -> str:
    """An optimizer with a state of its own within another, whose state_dict does not tell of it."""
    if optimizer is None:
        return ""
    for name, value in vars(optimizer).items():
        inner = value.state if isinstance(value, torch.optim.Optimizer) else None
        if inner and inner is not optimizer.state:
            return f"the state of {type(optimizer).__name__}.{name}"
    return ""


def read_hidden(held: Checkpoint) -> dict[str, Any]:
    """The values by place that a checkpoint holds. Raises BadCheckpoint for what is none."""
    found, used = {}, _Used(held.tensors)
    for place, packed in held.state.get("hidden", {}).items():
        try:
            found[place] = unpack(packed, used)
        except _WRONG:
            raise held.unfit(f"its {named(place)}", "plain values", packed) from None
    for name in held.tensors:
        if name.startswith("hidden/") and name not in used.names:
            raise held.unfit("its tensors", "those of the run", name)
    return found


class _Used(dict[str, Tensor]):
    """Tensors by name, which remembers the names that were asked for."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.names.add(name)
        return super().__getitem__(name)


def restore_hidden(training: Training, held: Checkpoint | None = None) -> None:
    """Set what was saved: all but the optimizer's before there is one, and that afterwards.

    Raises BadCheckpoint for what the training has no place for.
    """
    where, waiting = places(training), {}
    for place, value in training.unrestored.items():
        if place.startswith("optimizer") and training.optimizer is None:
            waiting[place] = value
            continue
        if held is not None:
            check_hidden(held, where, place, value)
        set_value(where, place, value)
    training.unrestored = waiting


def check_hidden(held: Checkpoint, where: Places, place: str, value: Any) -> None:
    """Raise BadCheckpoint for a value that does not belong in a place, or a place that there is not."""
    path, _, name = place.rpartition("|")
    new = place not in where.values
    if path not in where.owners or name.startswith("__") or (new and path.endswith(("globals", ")", "cell"))):
        raise held.unfit("what it holds beside its tensors", "of places that the training has", named(place))
    there = where.values.get(place)
    if new or there is None or value is None:
        return
    # Shapes of tensors that lie there themselves may change: tables grow with what they were asked for.
    tensors: dict[str, Tensor] = {}
    expected, found = kinds(unpack(pack(there, "", tensors), tensors)), kinds(value)
    if isinstance(there, Tensor) and isinstance(value, Tensor):
        expected, found = {str(there.dtype)}, {str(value.dtype)}
    if expected and not found <= expected:
        raise held.unfit(f"its {named(place)}", f"of {', '.join(sorted(expected))[:80]}", ", ".join(found))
