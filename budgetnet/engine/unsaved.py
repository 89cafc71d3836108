"""Unsaved: what a training changes beside its tensors and its place, into checkpoints and out of them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.budget import saved_tensors
from budgetnet.engine.hidden import Places, named, set_value, tensors_of
from budgetnet.engine.measure import trying
from budgetnet.engine.parts import learning
from budgetnet.engine.state import NotSaveable, Tensors, Words, fill, of
from budgetnet.engine.state import named as under
from budgetnet.engine.step import joined
from budgetnet.engine.training import Training
from budgetnet.engine.verify import check_place, check_tensors, kinds
from budgetnet.files import Checkpoint, NotPlain, pack, unpack
from budgetnet.optim import Joint
from budgetnet.randomness import own_randomness, reseed
from budgetnet.recipe import Phase, optimizer_of

_WRONG = (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError)


def capture(training: Training) -> tuple[Tensors, Words]:
    """All that the rest of the training depends on, apart from its model's making, data and recipe.

    Raises NotSaveable.
    """
    tensors, words = training.state.capture(training.roles)
    tensors |= under("model", saved_tensors(training.model))
    words |= {"session": training.session, "earlier": [epoch.line() for epoch in training.earlier]}
    try:
        hidden = pack_hidden(training, tensors)
    except NotPlain as reason:
        raise NotSaveable(str(reason)) from None
    return tensors, words | ({"hidden": hidden} if hidden else {})


def restore(training: Training, checkpoint: Checkpoint) -> None:
    """Set a fresh training to what `capture` saw; the optimizer follows once its phase is entered.

    Raises BadCheckpoint for tensors that are not such a training's.
    """
    check_tensors(training.model, checkpoint)
    fill(training.model, of(checkpoint.tensors, "model"))
    training.state.restore(checkpoint, training.model, training.recipe.average, training.engine.device)
    check_place(training, checkpoint)
    training.state.train = joined(training)
    training.state.waiting.hidden = read_hidden(checkpoint)
    restore_hidden(training, checkpoint)


def restore_optimizer(training: Training) -> None:
    """Give the phase's new optimizer the state that was saved for it, if there is one waiting."""
    waiting, optimizer = training.state.waiting, training.state.optimizer
    saved, waiting.optimizer = waiting.optimizer, None
    if optimizer is not None:
        remember(training)
    if saved is None or optimizer is None:
        waiting.hidden = {}
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


def places(training: Training) -> Places:
    """Where a training may keep what no state_dict holds."""
    average, optimizer, recipe = training.state.average, training.state.optimizer, training.recipe
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
        kept = [value for entries in optimizer.state.values() for value in entries.values()]
        known += [value for value in kept if isinstance(value, Tensor)]
    return Places(roots, known)


def remember(training: Training) -> None:
    """Take what is there now as what the training, or its new optimizer, begins with."""
    training.hidden.remember(places(training), again=training.state.optimizer is None)


def pack_hidden(training: Training, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What changed since the beginning, as JSON by place; its tensors go into `tensors`.

    Raises NotPlain for what changes and has no such form, naming it and the way out.
    """
    where = places(training)
    lost = training.hidden.lost(where)
    inner = _inner_optimizer(training.state.optimizer)
    if lost or inner:
        raise NotPlain(
            f"{named(lost[0]) if lost else inner} changes as the training goes, and is nothing that a "
            "checkpoint can hold; keep numbers, text or tensors there, or a buffer (register_buffer)"
        )
    changes = training.hidden.changes(where)
    return {place: pack(value, f"hidden/{place}", tensors) for place, value in changes.items()}


def unsaved_change(training: Training, images: Tensor) -> str:
    """What a step changed that tests depend on and no model file holds, in words; "" for nothing.

    `images` are views (B, C, r, r), which the model is given twice: with what changed as it is, and as it was
    before. What only training asks for may change: a checkpoint holds it.
    """
    model, where = training.model, places(training)
    changes = [place for place in training.hidden.changes(where) if place.startswith("model")]
    if not changes:
        return ""
    after, again = _tested(training, images), _tested(training, images)
    where = places(training)
    training.hidden.put_back(where, [place for place in changes if place in where.values])
    if not torch.equal(after, again) or torch.allclose(after, _tested(training, images), 1e-4, 1e-5):
        return ""
    path, _, name = changes[0].rpartition("|")
    module = where.owners.get(path)
    buffer = isinstance(module, nn.Module) and name in module._buffers
    way = f"register_buffer({name!r}, ...)" + (" with persistent=True" if buffer else "")
    return (
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


def read_hidden(checkpoint: Checkpoint) -> dict[str, Any]:
    """The values by place that a checkpoint holds. Raises BadCheckpoint for what is none."""
    values, used = {}, _Used(checkpoint.tensors)
    for place, packed in checkpoint.state.get("hidden", {}).items():
        try:
            values[place] = unpack(packed, used)
        except _WRONG:
            raise checkpoint.unfit(f"its {named(place)}", "plain values", packed) from None
    for name in checkpoint.tensors:
        if name.startswith("hidden/") and name not in used.names:
            raise checkpoint.unfit("its tensors", "those of the run", name)
    return values


class _Used(dict[str, Tensor]):
    """Tensors by name, which remembers the names that were asked for."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.names.add(name)
        return super().__getitem__(name)


def restore_hidden(training: Training, checkpoint: Checkpoint | None = None) -> None:
    """Set what was saved: all but the optimizer's before there is one, and that afterwards.

    Raises BadCheckpoint for what the training has no place for.
    """
    where, waiting = places(training), {}
    for place, value in training.state.waiting.hidden.items():
        if place.startswith("optimizer") and training.state.optimizer is None:
            waiting[place] = value
            continue
        if checkpoint is not None:
            check_hidden(checkpoint, where, place, value)
        set_value(where, place, value)
    training.state.waiting.hidden = waiting


def check_hidden(checkpoint: Checkpoint, where: Places, place: str, value: Any) -> None:
    """Raise BadCheckpoint for a value that does not belong in a place, or a place that there is not."""
    path, _, name = place.rpartition("|")
    new = place not in where.values
    if path not in where.owners or name.startswith("__") or (new and path.endswith(("globals", ")", "cell"))):
        raise checkpoint.unfit(
            "what it holds beside its tensors", "of places that the training has", named(place)
        )
    there = where.values.get(place)
    if new or there is None or value is None:
        return
    # Shapes of tensors that lie there themselves may change: tables grow with what they were asked for.
    tensors: dict[str, Tensor] = {}
    expected, given = kinds(unpack(pack(there, "", tensors), tensors)), kinds(value)
    if isinstance(there, Tensor) and isinstance(value, Tensor):
        expected, given = {str(there.dtype)}, {str(value.dtype)}
    if expected and not given <= expected:
        raise checkpoint.unfit(
            f"its {named(place)}", f"of {', '.join(sorted(expected))[:80]}", ", ".join(given)
        )


_PUSH, _RATE = 1e-3, 1e-20
"""Gradient and learning rate of a step that is only tried."""


def check_optimizer(training: Training, checkpoint: Checkpoint) -> None:
    """Raise BadCheckpoint unless what was saved of the optimizer is what a step of the phase's leaves.

    Kernels that update all parameters at once look at no shape: what does not fit would be written past the
    end of its memory.
    """
    saved = training.state.waiting.optimizer
    if saved is None:
        return
    phase = training.recipe.phases[training.state.phase - 1]
    if not phase.learns:
        raise checkpoint.unfit(
            "its optimizer", f"none in phase {training.state.phase}, which learns nothing", "one"
        )
    if not any(saved.values()) and not training.state.waiting.hidden:
        return
    strict, parameters, tried = _tried(training, phase, checkpoint)
    for at, entries in saved.items():
        if at >= len(tried):
            raise checkpoint.unfit(
                "its optimizer", f"of {len(tried)} parameters", f"one of parameter {at + 1:,}"
            )
        if strict and entries and set(entries) != set(tried[at]):
            raise checkpoint.unfit(
                f"its optimizer's parameter {at}", f"with {sorted(tried[at])}", sorted(entries)
            )
        for name, value in entries.items():
            what = f"its optimizer's {name} of parameter {at}"
            if name in tried[at]:
                _check_kind(checkpoint, what, value, tried[at][name], parameters[at], strict=strict)
            if name == "step" and name in tried[at] and not 0 <= float(value) <= checkpoint.step:
                raise checkpoint.unfit(what, f"from 0 to {checkpoint.step}", value)


def _check_kind(
    checkpoint: Checkpoint, what: str, value: Any, tried: Any, parameter: Tensor, *, strict: bool
) -> None:
    if isinstance(tried, Tensor):
        expected = f"{str(tried.dtype).removeprefix('torch.')} {list(tried.shape)}"
        if not isinstance(value, Tensor):
            raise checkpoint.unfit(what, expected, value)
        fixed = strict or tried.ndim == 0 or tried.shape == parameter.shape
        if value.dtype != tried.dtype or (fixed and value.shape != tried.shape):
            kind = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
            raise checkpoint.unfit(what, expected, kind)
    elif not kinds(value) <= (kinds(tried) or kinds(value)) and (tried is not None or strict):
        raise checkpoint.unfit(
            what, f"of {', '.join(sorted(kinds(tried)))[:80]}", ", ".join(sorted(kinds(value)))
        )


Tried = tuple[bool, list[Tensor], list[dict[str, Any]]]


def _tried(training: Training, phase: Phase, checkpoint: Checkpoint) -> Tried:
    """What the phase's optimizer keeps after one step, by parameter; all parameters are as before.

    The first says whether it is known to keep the same after every step: torch's own and ours.
    """
    model, make = training.model, phase.optimizer or training.recipe.optimizer
    with own_randomness(training.engine.device), learning(model, phase.trains) as chosen:
        optimizer = optimizer_of(make, model, chosen)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        before = [parameter.detach().clone() for parameter in parameters]
        try:
            for parameter in parameters:
                parameter.grad = torch.full_like(parameter, _PUSH)
            for group in optimizer.param_groups:
                group["lr"] = _RATE
            optimizer.step()
            where = Places({"optimizer": optimizer}, [])
            for place, value in training.state.waiting.hidden.items():
                check_hidden(checkpoint, where, place, value)
            kept = [dict(optimizer.state.get(parameter, {})) for parameter in parameters]
        finally:
            for parameter, values in zip(parameters, before, strict=True):
                parameter.grad = None
                with torch.no_grad():
                    parameter.copy_(values)
    parts = optimizer.optimizers if isinstance(optimizer, Joint) else [optimizer]
    strict = all(type(part).__module__.startswith(("torch.optim", "budgetnet.")) for part in parts)
    return strict, parameters, kept
