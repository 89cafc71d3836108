"""Meter: how far a training is, how fast and how well, told without waiting for the device."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from budgetnet.console import Watch
from budgetnet.recipe import Phase
from budgetnet.text import duration, percent

SECONDS_BETWEEN = 0.2


def _cost(phase: Phase) -> float:
    """The work of one epoch, in pixels seen of each image: what time left is estimated from."""
    return phase.views * phase.last_resolution**2


class Meter:
    """Times the epochs and feeds the bar; sums on a CUDA device are copied aside and read once there."""

    def __init__(self, phases: Sequence[Phase], watch: Watch) -> None:
        self._watch = watch
        self._phases = phases
        self._started = self._mark = self._shown = time.perf_counter()
        self._copy: tuple[Tensor, torch.cuda.Event, int] | None = None
        self._figures = ""

    def begin(self, number: int, phase: Phase, at: int, steps: int, size: int, *, spent: float = 0.0) -> None:
        """Begin the epoch after `at` others of phase `number`: `steps` steps of `size` images.

        `spent` seconds of it were spent before, by a run that was interrupted.
        """
        self._mark = time.perf_counter() - spent
        self._steps, self._size = steps, size
        self._label = f"{phase.name or f'phase {number}'} {at + 1}/{phase.epochs}"
        earlier = sum(p.epochs * _cost(p) for p in self._phases[: number - 1])
        self._whole = sum(p.epochs * _cost(p) for p in self._phases)
        self._done, self._each = earlier + at * _cost(phase), _cost(phase)
        self._copy, self._figures = None, ""

    def step(self, done: int, sums: Tensor) -> None:
        """After `done` steps of the epoch; `sums` over them of loss, accuracy and pseudo-labelled share."""
        now = time.perf_counter()
        if now - self._shown < SECONDS_BETWEEN or not self._watch.live:
            return
        self._shown = now
        seen = self._read(done, sums)
        if seen is not None:
            (loss, accuracy, _), steps = seen
            self._figures = f"loss {loss / steps:.4f}  accuracy {percent(accuracy / steps)}"
        pace = done * self._size / (now - self._mark)
        part = (self._done + self._each * done / self._steps) / self._whole
        left = (now - self._started) * (1 - part) / part
        figures = f"{self._figures}  {pace:,.0f} images/s  {duration(left)} left"
        self._watch.step(self._label, done / self._steps, figures)

    def _read(self, done: int, sums: Tensor) -> tuple[list[float], int] | None:
        if sums.device.type != "cuda":
            return sums.tolist(), done
        seen = None
        if self._copy is not None and self._copy[1].query():  # type: ignore[no-untyped-call]
            seen = (self._copy[0].tolist(), self._copy[2])
            self._copy = None
        if self._copy is None:
            aside = torch.empty(len(sums), pin_memory=True).copy_(sums, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._copy = (aside, event, done)
        return seen

    @property
    def spent(self) -> float:
        """Seconds since the epoch's beginning."""
        return time.perf_counter() - self._mark

    def lap(self) -> float:
        """Seconds since the last lap or the epoch's beginning."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        return seconds
