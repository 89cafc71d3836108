"""Finite: a NaN or infinity is told within a step of its appearance, and never reaches a checkpoint."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from budgetnet.engine.failure import NotFinite
from budgetnet.engine.training import Training
from budgetnet.recipe import BackOff
from budgetnet.run import Note

_WAY_OUT = "lower the learning rate, add a Warmup, or set the recipe's clip"


SMALL = 1 << 16
"""A model of fewer numbers is looked at as one tensor."""


class FiniteCheck:
    """Looks at all that a training goes on from after each step: at once on a CPU, without waiting on CUDA.

    There it looks as soon as the device has come to the step before.
    """

    def __init__(self, training: Training) -> None:
        average, model = training.state.average, training.model
        # An average has moved towards all that the model holds.
        model = average.model if average is not None else model
        self._fixed = [held.detach() for held in floating(chain(model.parameters(), model.buffers()))]
        self._looked_at: list[Tensor] = []
        self._remembered = -1
        flat = all(_flat(tensor).ndim == 1 for tensor in self._fixed)
        self._small = flat and sum(tensor.numel() for tensor in self._fixed) < SMALL
        self._copy: tuple[Tensor, torch.cuda.Event, int] | None = None

    def step(self, training: Training, rate: float) -> None:
        """Raise NotFinite if this step, or one that CUDA has done since, left what is not finite."""
        assert training.state.sums is not None
        if self._copy is not None:
            if not training.team.alone:
                # All processes look at the same step.
                self._copy[1].synchronize()
            if not self._copy[1].query():  # type: ignore[no-untyped-call]
                return
            _look(float(self._copy[0]), training, self._copy[2], rate)
            self._copy = None
        remembered = len(training.state.optimizer.state) if training.state.optimizer is not None else 0
        if remembered != self._remembered:
            # An optimizer makes its state at its first step, and changes it in place. The epoch's sums, which
            # have the loss, change in place too.
            held = (training.state.sums, *self._fixed, *optimizer_state(training))
            self._looked_at = [_flat(tensor) for tensor in held]
            self._remembered = remembered
        # Small ones are quicker copied than looked at one by one.
        total = torch.cat(self._looked_at).sum() if self._small else sound_together(self._looked_at)
        if total.device.type != "cuda":
            _look(float(total), training, training.state.done, rate)
            return
        aside = torch.empty((), pin_memory=True).copy_(total, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._copy = (aside, event, training.state.done)


def floating(tensors: Iterable[Any]) -> list[Tensor]:
    """Those that are tensors of floating-point numbers; complex ones as the numbers that they are made of."""
    return [
        torch.view_as_real(held) if held.is_complex() else held
        for held in tensors
        if isinstance(held, Tensor) and (held.is_floating_point() or held.is_complex())
    ]


def optimizer_state(training: Training) -> list[Tensor]:
    """What the optimizer remembers of each parameter, on the parameters' device."""
    if training.state.optimizer is None:
        return []
    device = training.engine.device.type
    state = training.state.optimizer.state.values()
    held = [tensor for entries in state for tensor in floating(entries.values())]
    # The count of steps, of no dimension, is no number that could become infinite.
    return [tensor.detach() for tensor in held if tensor.device.type == device and tensor.ndim]


def sound_together(tensors: Sequence[Tensor]) -> Tensor:
    """One number that is finite only if all of these tensors are, (); large ones may overflow it."""
    norms = torch._foreach_norm(list(tensors))
    return torch.stack(norms).sum()


def _flat(tensor: Tensor) -> Tensor:
    """The same memory as one row (N,), where the tensor has no gaps; else as it is."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.view(-1) if tensor.is_contiguous() else tensor


def everything(training: Training) -> dict[str, Tensor]:
    """Weights, statistics, averages and the optimizer's state, by names for people."""
    model, average, optimizer = training.model, training.state.average, training.state.optimizer
    named = {f"model {name}": held for name, held in chain(model.named_parameters(), model.named_buffers())}
    if average is not None:
        both = chain(average.model.named_parameters(), average.model.named_buffers())
        named |= {f"average {name}": held for name, held in both}
    if optimizer is not None:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        for parameter, entries in optimizer.state.items():
            for entry, held in entries.items():
                if isinstance(held, Tensor):
                    named[f"the optimizer's {entry} of {names.get(id(parameter), 'a parameter')}"] = held
    return named


def _look(total: float, training: Training, done: int, rate: float) -> None:
    if math.isfinite(total):
        return
    assert training.state.sums is not None
    check_loss(float(training.state.sums[0]), training, rate, done=done)
    check_finite(everything(training), training)


def check_loss(total: float, training: Training, rate: float, *, done: int | None = None) -> None:
    """Raise NotFinite if this sum of losses is not finite, after `done` steps of the epoch."""
    if math.isfinite(total):
        return
    raise NotFinite(
        f"the loss became {total} {_where(training, done or training.state.done, rate)}; {_left(training)}; "
        f"{_WAY_OUT}"
    )


def _where(training: Training, step: int, rate: float) -> str:
    state = training.state
    epoch = len(training.of_phase(state.phase)) + 1
    return f"in step {step} of epoch {epoch} of phase {state.phase} (lr {rate:.3g})"


def check_finite(tensors: Mapping[str, Tensor], training: Training) -> None:
    """Raise NotFinite naming the first tensor that is to be kept and is not finite."""
    held: dict[torch.device, list[Tensor]] = {}
    for tensor in floating(tensors.values()):
        held.setdefault(tensor.device, []).append(tensor.detach())
    # All of a device at once: to read them one by one would wait for it as often.
    if all(math.isfinite(float(sound_together(group))) for group in held.values()):
        return
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise NotFinite(
                f"{name.replace('/', ' ', 1)} holds a NaN or an infinity after step {training.state.step}; "
                f"{_left(training)}; {_WAY_OUT}"
            )


def _left(training: Training) -> str:
    kept = training.kept
    if kept is None:
        return "no epoch was finished before it"
    return f"the weights of epoch {kept.epoch.number} are kept"


class Undo:
    """Keeps what one step can change, so that it can be set back."""

    def __init__(self, training: Training, backoff: BackOff) -> None:
        self._training = training
        self._backoff = backoff
        average = training.state.average
        models = [training.model] if average is None else [training.model, average.model]
        self._fixed = [held for model in models for held in chain(model.parameters(), model.buffers())]
        self._live: list[Tensor] = []
        self._before: list[Tensor] = []
        self._state: dict[Tensor, dict[str, Any]] = {}
        self._groups: list[dict[str, Any]] = []
        self._updates = 0

    def lower(self, rate: float) -> float:
        """Lower the learning rates in the optimizer as often as steps were undone; gives the phase's own."""
        training, times = self._training, self._training.lowered
        assert training.state.optimizer is not None
        if times != 1.0:
            for group in training.state.optimizer.param_groups:
                group["lr"] *= times
        return rate * times

    def remember(self) -> None:
        """Keep the training as it is now, before a step."""
        training = self._training
        optimizer = training.state.optimizer
        assert optimizer is not None
        state = [held for entries in optimizer.state.values() for held in entries.values()]
        live = [*self._fixed, *(held for held in state if isinstance(held, Tensor))]
        if [id(tensor) for tensor in live] != [id(tensor) for tensor in self._live]:
            self._live = live
            self._before = [tensor.detach().clone() for tensor in live]
        else:
            with torch.no_grad():
                torch._foreach_copy_(self._before, [tensor.detach() for tensor in live])
        self._state = {parameter: dict(entries) for parameter, entries in optimizer.state.items()}
        self._groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        self._updates = training.state.average.updates if training.state.average is not None else 0

    def checked(self, figures: Tensor, rate: float) -> Tensor:
        """The figures of the step just taken; zeros where it is undone. Raises NotFinite at the limit."""
        training, limit = self._training, self._backoff.limit
        wrong = self._wrong(figures)
        if wrong is None:
            return figures
        self._set_back()
        where = _where(training, training.state.done + 1, rate)
        if len(training.state.undone) >= limit:
            raise NotFinite(
                f"{wrong} {where}, and the recipe's on_nan had taken back {limit} steps before; {_WAY_OUT}"
            )
        training.state.undone.append(training.state.step)
        text = (
            f"{wrong} {where}: the step is undone, and the learning rate multiplied by "
            f"{self._backoff.factor:g} from here on ({len(training.state.undone)} of {limit} times)"
        )
        training.tell(Note("undone", text))
        return torch.zeros_like(figures)

    def _wrong(self, figures: Tensor) -> str | None:
        """What is not finite after the step, in words."""
        watched = [*(held.detach() for held in floating(self._fixed)), *optimizer_state(self._training)]
        if math.isfinite(float(figures[0] + sound_together(watched))):
            return None
        loss = float(figures[0])
        if not math.isfinite(loss):
            return f"the loss became {loss}"
        for name, tensor in everything(self._training).items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                return f"{name} became a NaN or an infinity"
        return None

    def _set_back(self) -> None:
        training, optimizer = self._training, self._training.state.optimizer
        assert optimizer is not None
        with torch.no_grad():
            for parameter in list(optimizer.state):
                # What the step made has not been there before it.
                if parameter not in self._state:
                    del optimizer.state[parameter]
                else:
                    optimizer.state[parameter] = self._state[parameter]
            torch._foreach_copy_([tensor.detach() for tensor in self._live], self._before)
        for group, values in zip(optimizer.param_groups, self._groups, strict=True):
            group.update(values)
        optimizer.zero_grad(set_to_none=True)
        if training.state.average is not None:
            training.state.average.updates = self._updates
