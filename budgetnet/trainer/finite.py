"""Finite: a NaN or infinity is told within a step of its appearance, and never reaches a checkpoint."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from budgetnet.trainer.training import NotFinite, Training

_WAY_OUT = "lower the learning rate, add a Warmup, or set the recipe's clip"


class Sentry:
    """Looks at loss and statistics after each step: at once on a CPU, as soon as they are there on CUDA.

    Weights that are not finite give a loss that is not in the next step; statistics would not be missed
    before the model is evaluated.
    """

    def __init__(self, model: nn.Module) -> None:
        self._statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._copy: tuple[Tensor, torch.cuda.Event, int] | None = None

    def step(self, training: Training, rate: float) -> None:
        """Raise NotFinite if this step, or one that CUDA has done since, left what is not finite."""
        assert training.sums is not None
        total = training.sums[0]
        if self._statistics:
            # One number that is finite only if all of them are.
            total = total + torch.cat([buffer.reshape(-1) for buffer in self._statistics]).sum()
        if total.device.type != "cuda":
            _look(float(total), training, training.done, rate)
            return
        if self._copy is not None and self._copy[1].query():  # type: ignore[no-untyped-call]
            _look(float(self._copy[0]), training, self._copy[2], rate)
            self._copy = None
        if self._copy is None:
            aside = torch.empty((), pin_memory=True).copy_(total, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._copy = (aside, event, training.done)


def _look(total: float, training: Training, done: int, rate: float) -> None:
    if math.isfinite(total):
        return
    assert training.sums is not None
    check_loss(float(training.sums[0]), training, rate, done=done)
    check_finite(dict(training.model.named_buffers()), training)


def check_loss(total: float, training: Training, rate: float, *, done: int | None = None) -> None:
    """Raise NotFinite if this sum of losses is not finite, after `done` steps of the epoch."""
    if math.isfinite(total):
        return
    epoch = len(training.of_phase(training.phase)) + 1
    raise NotFinite(
        f"the loss became {total} in step {done or training.done} of epoch {epoch} of phase {training.phase} "
        f"(lr {rate:.3g}); {_left(training)}; {_WAY_OUT}"
    )


def check_finite(tensors: Mapping[str, Tensor], training: Training) -> None:
    """Raise NotFinite naming the first tensor that is to be kept and is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise NotFinite(
                f"{name.replace('/', ' ', 1)} holds a NaN or an infinity after step {training.step}; "
                f"{_left(training)}; {_WAY_OUT}"
            )


def _left(training: Training) -> str:
    kept = training.kept
    if kept is None:
        return "no epoch was finished before it"
    return f"the weights of epoch {kept.epoch.number} are kept"
