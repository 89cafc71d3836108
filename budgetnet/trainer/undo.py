"""Undo: a step that leaves what is not finite is taken back, as the recipe's BackOff asks."""

import math
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from budgetnet.recipe import BackOff
from budgetnet.trainer.finite import everything, floating, optimizer_state, sound_together
from budgetnet.trainer.training import NotFinite, Training


class Undo:
    """Keeps what one step can change, so that it can be set back."""

    def __init__(self, training: Training, backoff: BackOff) -> None:
        self._training = training
        self._backoff = backoff
        average = training.average
        models = [training.model] if average is None else [training.model, average.model]
        self._fixed = [held for model in models for held in chain(model.parameters(), model.buffers())]
        self._live: list[Tensor] = []
        self._kept: list[Tensor] = []
        self._state: dict[Tensor, dict[str, Any]] = {}
        self._groups: list[dict[str, Any]] = []
        self._updates = 0

    def lower(self, rate: float) -> float:
        """Lower the learning rates in the optimizer as often as steps were undone; gives the phase's own."""
        training, times = self._training, self._training.lowered
        assert training.optimizer is not None
        if times != 1.0:
            for group in training.optimizer.param_groups:
                group["lr"] *= times
        return rate * times

    def remember(self) -> None:
        """Keep the training as it is now, before a step."""
        training = self._training
        optimizer = training.optimizer
        assert optimizer is not None
        state = [held for entries in optimizer.state.values() for held in entries.values()]
        live = [*self._fixed, *(held for held in state if isinstance(held, Tensor))]
        if [id(tensor) for tensor in live] != [id(tensor) for tensor in self._live]:
            self._live = live
            self._kept = [tensor.detach().clone() for tensor in live]
        else:
            with torch.no_grad():
                torch._foreach_copy_(self._kept, [tensor.detach() for tensor in live])
        self._state = {parameter: dict(entries) for parameter, entries in optimizer.state.items()}
        self._groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        self._updates = training.average.updates if training.average is not None else 0

    def checked(self, figures: Tensor, rate: float) -> Tensor:
        """The figures of the step just taken; zeros where it is undone. Raises NotFinite at the limit."""
        training, limit = self._training, self._backoff.limit
        wrong = self._wrong(figures)
        if wrong is None:
            return figures
        self._set_back()
        epoch = len(training.of_phase(training.phase)) + 1
        where = f"in step {training.done + 1} of epoch {epoch} of phase {training.phase} (lr {rate:.3g})"
        if len(training.undone) >= limit:
            raise NotFinite(
                f"{wrong} {where}, and the recipe's on_nan had taken back {limit} steps before; lower the "
                "learning rate, add a Warmup, or set the recipe's clip"
            )
        training.undone.append(training.step)
        training.watch.say(
            f"note: {wrong} {where}: the step is undone, and the learning rate multiplied by "
            f"{self._backoff.factor:g} from here on ({len(training.undone)} of {limit} times)"
        )
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
        training, optimizer = self._training, self._training.optimizer
        assert optimizer is not None
        with torch.no_grad():
            for parameter in list(optimizer.state):
                # What the step made has not been there before it.
                if parameter not in self._state:
                    del optimizer.state[parameter]
                else:
                    optimizer.state[parameter] = self._state[parameter]
            torch._foreach_copy_([tensor.detach() for tensor in self._live], self._kept)
        for group, values in zip(optimizer.param_groups, self._groups, strict=True):
            group.update(values)
        optimizer.zero_grad(set_to_none=True)
        if training.average is not None:
            training.average.updates = self._updates
