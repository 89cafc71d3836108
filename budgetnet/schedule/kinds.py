"""What a schedule may be, and what is asked of it: its value, and itself for a phase of another length."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass, replace
from typing import Any, Protocol, Self, TypeGuard, runtime_checkable

Curve = Callable[[float], float]


@runtime_checkable
class Timed(Protocol):
    """A schedule whose durations are in epochs."""

    def over(self, epochs: float) -> Curve:
        """The curve `t -> value` for a phase of `epochs` epochs."""


@runtime_checkable
class Counted(Protocol):
    """A curve that is exact once it is known how many steps its phase has."""

    def __call__(self, t: float) -> float:
        """The value at progress t in [0, 1)."""

    def through(self, steps: int) -> Curve:
        """The curve `t -> value` for a phase of `steps` steps, of which step k, from 0, is at k / steps."""


class Measured(Protocol):
    """One finished epoch, as a schedule of the history reads it."""

    def measure(self, name: str) -> float:
        """The figure called `name`, NaN where it was not measured."""


@runtime_checkable
class Reactive(Protocol):
    """A schedule that answers to the history of its phase, as `Plateau` does; any object with `of` is one.

    Which figures it reads, and after how many epochs it acts, is found by showing it flat epochs; an
    attribute `monitor` says it outright. With a method `stretched(factor)`, or an attribute `patience`
    (epochs), it is scaled as its phase is.
    """

    def of(self, history: Sequence[Measured]) -> float:
        """The value for the next epoch, from the finished epochs of this phase."""


@runtime_checkable
class Stretching(Protocol):
    """A schedule, or an optimizer with schedules of its own, that can be made for another length of phase."""

    def stretched(self, factor: float) -> Self:
        """The same with every duration multiplied by `factor`."""


@runtime_checkable
class Stopping(Protocol):
    """A schedule that ends the learning of its parameters before their phase ends, as `Early` does."""

    def stopped(self, t: float, *, epochs: float) -> bool:
        """Whether that is so at progress t of a phase of `epochs` epochs."""


@runtime_checkable
class Patient(Protocol):
    """A schedule of the history that waits for so many epochs."""

    @property
    def patience(self) -> int:
        """In epochs."""


Schedule = float | Curve | Timed | Reactive


def is_schedule(value: object) -> TypeGuard[Schedule]:
    """Whether this is a number or a schedule, and not the class of one."""
    kinds = isinstance(value, int | float | Timed | Reactive) or callable(value)
    return kinds and not isinstance(value, type)


def value(
    schedule: Schedule, t: float, *, epochs: float, history: Sequence[Measured] = (), steps: int | None = None
) -> float:
    """The value of `schedule` at progress t in [0, 1) of a phase of `epochs` epochs, and `steps` steps."""
    if isinstance(schedule, int | float):
        return float(schedule)
    if isinstance(schedule, Reactive):
        return schedule.of(history)
    return float(curve(schedule, epochs=epochs, steps=steps)(t))


def curve(schedule: Curve | Timed | Counted, *, epochs: float, steps: int | None = None) -> Curve:
    """The curve `t -> value` of a schedule of progress for a phase of `epochs` epochs, and `steps` steps."""
    if steps is not None and isinstance(schedule, Counted):
        return schedule.through(steps)
    return schedule.over(epochs) if isinstance(schedule, Timed) else schedule


def stretched(schedule: Schedule, factor: float) -> Schedule:
    """`schedule` for a phase that is `factor` times as long: durations in epochs are multiplied by it."""
    longer: Schedule = _stretched(schedule, factor)
    return longer


def _stretched(schedule: Any, factor: float) -> Any:
    if isinstance(schedule, Stretching):
        return schedule.stretched(factor)
    if not isinstance(schedule, Reactive) or not isinstance(schedule, Patient):
        return schedule
    patience = max(0, round(schedule.patience * factor))
    changed: Any = schedule
    if is_dataclass(changed) and not isinstance(changed, type):
        return replace(changed, patience=patience)
    changed = copy.copy(changed)
    changed.patience = patience
    return changed
