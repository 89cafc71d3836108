"""Schedules of a phase's history: ours, and what is asked of anybody's."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

from budgetnet.schedule.kinds import Measured, Reactive
from budgetnet.values import above_zero, number, one_of

MONITORS = ("val_loss", "val_accuracy", "train_loss", "train_accuracy")
"""What every epoch has; the figures of a recipe's metrics come besides, as "val_f1"."""
FALLING = ("loss", "error", "ece")


def rises(figure: str) -> bool:
    """Whether a figure is better when it is higher: all are but those whose names end in FALLING.

    >>> rises("val_balanced_accuracy"), rises("val_f1.cat_loss"), rises("val_ece")
    (True, True, False)
    """
    return not figure.partition(".")[0].endswith(FALLING)


def check_monitor(name: str, monitor: object) -> None:
    """Refuse what no epoch could have; whether the recipe has such a metric is checked with the recipe."""
    metric = isinstance(monitor, str) and monitor.startswith("val_")
    # What begins one of them, as val_acc does, is meant for it.
    if not metric or any(known.startswith(str(monitor)) for known in MONITORS):
        one_of(name, monitor, (*MONITORS, "val_ and a metric's name"))


@runtime_checkable
class Monitoring(Protocol):
    """A schedule of the history that says which figure it reads."""

    @property
    def monitor(self) -> str:
        """The figure's name, such as "val_loss"."""
        ...


class Flat:
    """An epoch in which nothing became better or worse; `asked` are the figures that were read."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def measure(self, name: str) -> float:
        """1, whatever is asked for."""
        self.asked.add(name)
        return 1.0

    def __getattr__(self, name: str) -> float:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.measure(name)


def monitors(schedule: object) -> set[str]:
    """The figures that a schedule reads, as it says itself or as epochs are asked for them."""
    if not isinstance(schedule, Reactive):
        return set()
    if isinstance(schedule, Monitoring):
        return {schedule.monitor}
    epoch = Flat()
    with contextlib.suppress(Exception):
        for count in (1, 2, 20):
            schedule.of([epoch] * count)
    return epoch.asked


def acts(schedule: Reactive, within: int) -> int | None:
    """After how many flat epochs, at most `within`, the value is another one; None if after none of them."""
    epoch, first = Flat(), schedule.of([])
    return next((k for k in range(1, within + 1) if schedule.of([epoch] * k) != first), None)


@dataclass(frozen=True)
class Plateau:
    """`peak`, multiplied by `factor` whenever `monitor` has not improved for more than `patience` epochs.

    The value is worked out from the history alone, by the rule of torch's `ReduceLROnPlateau` (relative
    threshold 1e-4). `monitor` is "val_loss", "train_loss", "val_accuracy", "train_accuracy", or that of one
    of the recipe's metrics, such as "val_f1". What ends in loss, error or ece is better when it falls, all
    else when it rises. NaN never counts as an improvement.
    """

    peak: float
    factor: float = 0.1
    patience: int = 10
    monitor: str = "val_loss"
    minimum: float = 0.0
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        above_zero("Plateau's peak", self.peak)
        number("Plateau's factor", self.factor, above=0, below=1)
        number("Plateau's patience (epochs)", self.patience, least=0)
        check_monitor("Plateau's monitor", self.monitor)

    def stretched(self, factor: float) -> Self:
        return replace(self, patience=max(0, round(self.patience * factor)))

    def of(self, history: Sequence[Measured]) -> float:
        rising = rises(self.monitor)
        rate, best, bad = self.peak, -math.inf if rising else math.inf, 0
        for epoch in history:
            figure = epoch.measure(self.monitor)
            if rising:
                better = figure > (best * (1 + self.threshold) if best > -math.inf else best)
            else:
                better = figure < (best * (1 - self.threshold) if best < math.inf else best)
            if better:
                best, bad = figure, 0
            else:
                bad += 1
            if bad > self.patience:
                rate, bad = max(rate * self.factor, self.minimum), 0
        return rate
