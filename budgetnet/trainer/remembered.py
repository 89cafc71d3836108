"""Remembered: what an optimizer keeps of each parameter, and whether a checkpoint holds the same kinds."""

from typing import Any

import torch
from torch import Tensor

from budgetnet.files import Checkpoint
from budgetnet.optim import Joint
from budgetnet.recipe import Phase, optimizer_of
from budgetnet.trainer.hidden import Places
from budgetnet.trainer.parts import learning
from budgetnet.trainer.randomness import own_randomness
from budgetnet.trainer.training import Training
from budgetnet.trainer.unsaved import check_hidden
from budgetnet.trainer.verify import kinds

_PUSH, _RATE = 1e-3, 1e-20
"""Gradient and learning rate of a step that is only tried."""


def check_optimizer(training: Training, held: Checkpoint) -> None:
    """Raise BadCheckpoint unless what was saved of the optimizer is what a step of the phase's leaves.

    Kernels that update all parameters at once look at no shape: what does not fit would be written past the
    end of its memory.
    """
    saved = training.optimizer_state
    if saved is None:
        return
    phase = training.recipe.phases[training.phase - 1]
    if not phase.learns:
        raise held.unfit("its optimizer", f"none in phase {training.phase}, which learns nothing", "one")
    if not any(saved.values()) and not training.unrestored:
        return
    strict, parameters, tried = _tried(training, phase, held)
    for at, entries in saved.items():
        if at >= len(tried):
            raise held.unfit("its optimizer", f"of {len(tried)} parameters", f"one of parameter {at + 1:,}")
        if strict and entries and set(entries) != set(tried[at]):
            raise held.unfit(f"its optimizer's parameter {at}", f"with {sorted(tried[at])}", sorted(entries))
        for name, value in entries.items():
            what = f"its optimizer's {name} of parameter {at}"
            if name in tried[at]:
                _check_kind(held, what, value, tried[at][name], parameters[at], strict=strict)
            if name == "step" and name in tried[at] and not 0 <= float(value) <= held.step:
                raise held.unfit(what, f"from 0 to {held.step}", value)


def _check_kind(
    held: Checkpoint, what: str, value: Any, tried: Any, parameter: Tensor, *, strict: bool
) -> None:
    if isinstance(tried, Tensor):
        expected = f"{str(tried.dtype).removeprefix('torch.')} {list(tried.shape)}"
        if not isinstance(value, Tensor):
            raise held.unfit(what, expected, value)
        fixed = strict or tried.ndim == 0 or tried.shape == parameter.shape
        if value.dtype != tried.dtype or (fixed and value.shape != tried.shape):
            found = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
            raise held.unfit(what, expected, found)
    elif not kinds(value) <= (kinds(tried) or kinds(value)) and (tried is not None or strict):
        raise held.unfit(what, f"of {', '.join(sorted(kinds(tried)))[:80]}", ", ".join(sorted(kinds(value))))


Tried = tuple[bool, list[Tensor], list[dict[str, Any]]]


def _tried(training: Training, phase: Phase, held: Checkpoint) -> Tried:
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
            for place, value in training.unrestored.items():
                check_hidden(held, where, place, value)
            kept = [dict(optimizer.state.get(parameter, {})) for parameter in parameters]
        finally:
            for parameter, values in zip(parameters, before, strict=True):
                parameter.grad = None
                with torch.no_grad():
                    parameter.copy_(values)
    parts = optimizer.parts if isinstance(optimizer, Joint) else [optimizer]
    strict = all(type(part).__module__.startswith(("torch.optim", "budgetnet.")) for part in parts)
    return strict, parameters, kept
