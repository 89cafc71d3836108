"""Schedules: values as closed-form functions of a phase's progress, or of its history; nothing is stored.

A schedule is a number, any callable `t -> value` with t in [0, 1), or one of the classes below. Durations
are in epochs of the phase, counted from its first step. Two kinds are told apart by one method each:
`over(epochs)` binds durations to the length of a phase, `of(history)` reads the epochs so far.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, Literal, Protocol, Self, cast, runtime_checkable

Curve = Callable[[float], float]


@runtime_checkable
class Timed(Protocol):
    """A schedule whose durations are in epochs."""

    def over(self, epochs: float) -> Curve:
        """The curve `t -> value` for a phase of `epochs` epochs."""
        ...

    def stretched(self, factor: float) -> Self:
        """The same schedule with every duration multiplied by `factor`."""
        ...


@runtime_checkable
class Counted(Protocol):
    """A curve that is exact once it is known how many steps its phase has."""

    def __call__(self, t: float) -> float:
        """The value at progress t in [0, 1)."""
        ...

    def through(self, steps: int) -> Curve:
        """The curve `t -> value` for a phase of `steps` steps, of which step k, from 0, is at k / steps."""
        ...


class Measured(Protocol):
    """One finished epoch, as a schedule of the history reads it."""

    def measure(self, name: str) -> float:
        """The figure called `name`, NaN where it was not measured."""
        ...


@runtime_checkable
class Reactive(Protocol):
    """A schedule that answers to the history of its phase, as `Plateau` does; any object with `of` is one.

    Which figures it reads, and after how many epochs it acts, is found by showing it flat epochs; an
    attribute `monitor` says it outright. With a method `stretched(factor)`, or an attribute `patience`
    (epochs), it is scaled as its phase is.
    """

    def of(self, history: Sequence[Measured]) -> float:
        """The value for the next epoch, from the finished epochs of this phase."""
        ...


@runtime_checkable
class Stretching(Protocol):
    """A schedule that can be made for a longer or shorter phase."""

    def stretched(self, factor: float) -> Self:
        """The same schedule with every duration multiplied by `factor`."""
        ...


@runtime_checkable
class Monitoring(Protocol):
    """A schedule of the history that says which figure it reads."""

    @property
    def monitor(self) -> str:
        """The figure's name, such as "val_loss"."""
        ...


@runtime_checkable
class Patient(Protocol):
    """A schedule of the history that waits for so many epochs."""

    @property
    def patience(self) -> int:
        """In epochs."""
        ...


MONITORS = ("val_loss", "val_accuracy", "train_loss", "train_accuracy")


class Flat:
    """An epoch in which nothing became better or worse; `asked` has what was asked of it."""

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


Schedule = float | Curve | Timed | Reactive


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
    if isinstance(schedule, Stretching):
        longer: Schedule = schedule.stretched(factor)
        return longer
    return _patient(schedule, factor) if isinstance(schedule, Reactive) else schedule


def _patient(schedule: Any, factor: float) -> Reactive:
    """A schedule of history whose patience, where it has one, is multiplied by `factor`."""
    changed: Any = schedule
    if isinstance(schedule, Patient):
        patience = max(0, round(schedule.patience * factor))
        if is_dataclass(changed) and not isinstance(changed, type):
            return cast(Reactive, replace(changed, patience=patience))
        changed = copy.copy(changed)
        changed.patience = patience
    return cast(Reactive, changed)


def _cosine(start: float, end: float, t: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2


def _refuse_unless(condition: bool, name: str, expected: str, found: object) -> None:
    if not condition:
        raise ValueError(f"{name} should be {expected}, not {found!r}")


@dataclass(frozen=True)
class Cosine:
    """From `peak` to `final` along half a cosine over the whole phase.

    Reference: https://arxiv.org/abs/1608.03983.
    """

    peak: float
    final: float = 0.0

    def __post_init__(self) -> None:
        _refuse_unless(self.peak > 0, "Cosine's peak", "above 0", self.peak)
        _refuse_unless(self.final >= 0, "Cosine's final", "0 or more", self.final)

    def __call__(self, t: float) -> float:
        return _cosine(self.peak, self.final, t)


@dataclass(frozen=True)
class Linear:
    """From `start` to `end` along a straight line over the whole phase."""

    start: float
    end: float = 0.0

    def __post_init__(self) -> None:
        _refuse_unless(self.start >= 0, "Linear's start", "0 or more", self.start)
        _refuse_unless(self.end >= 0, "Linear's end", "0 or more", self.end)

    def __call__(self, t: float) -> float:
        return self.start + (self.end - self.start) * t


@dataclass(frozen=True)
class Restarts:
    """Cosine cycles: the k-th lasts `first * grow**k` epochs and falls from `peak * decay**k` to `final`.

    The value moves at every step, so no epoch is spent at `final`. `whole_epochs=True` instead holds it
    for a whole epoch and gives every cycle one more epoch, spent at `final`, which is what re-creating
    torch's `CosineAnnealingLR` per cycle did before it stopped working (pytorch issue 78003); for parity
    with such runs only. With `warmup`, every cycle begins with a straight line from `start` times its peak to
    its peak, for that many epochs of its length, and the cosine takes the rest. Reference:
    https://arxiv.org/abs/1608.03983 (SGDR); the warm-up is https://arxiv.org/abs/1706.02677.
    """

    peak: float
    first: float = 10.0
    grow: float = 2.0
    decay: float = 1.0
    final: float = 0.0
    whole_epochs: bool = False
    warmup: float = 0.0
    start: float = 0.0

    def __post_init__(self) -> None:
        _refuse_unless(self.peak > 0, "Restarts's peak", "above 0", self.peak)
        _refuse_unless(self.first > 0, "Restarts's first (epochs)", "above 0", self.first)
        _refuse_unless(self.grow >= 1, "Restarts's grow", "1 or more", self.grow)
        _refuse_unless(0 < self.decay <= 1, "Restarts's decay", "above 0 and at most 1", self.decay)
        _refuse_unless(self.final >= 0, "Restarts's final", "0 or more", self.final)
        _refuse_unless(
            0 <= self.warmup < self.first,
            "Restarts's warmup (epochs at the start of every cycle)",
            f"0 or more and below the first cycle's {self.first:g}",
            self.warmup,
        )
        _refuse_unless(
            0 <= self.start <= 1, "Restarts's start (part of each cycle's peak)", "in [0, 1]", self.start
        )

    def stretched(self, factor: float) -> Self:
        return replace(self, first=self.first * factor, warmup=self.warmup * factor)

    def over(self, epochs: float) -> Curve:
        extra = 1.0 if self.whole_epochs else 0.0

        def curve(t: float) -> float:
            at = t * epochs
            if self.whole_epochs:
                at = float(math.floor(at + 1e-9))
            peak, length = self.peak, self.first
            while at >= length + extra - 1e-9:
                at -= length + extra
                peak, length = peak * self.decay, length * self.grow
            peak, at = max(peak, self.final), max(at, 0.0)
            if at < self.warmup:
                return peak * (self.start + (1 - self.start) * at / self.warmup)
            return _cosine(peak, self.final, min((at - self.warmup) / (length - self.warmup), 1.0))

        return curve


@dataclass(frozen=True)
class Step:
    """`peak`, multiplied by `factor` after every `every` epochs; torch's `StepLR`."""

    peak: float
    every: float
    factor: float = 0.1

    def __post_init__(self) -> None:
        _refuse_unless(self.peak > 0, "Step's peak", "above 0", self.peak)
        _refuse_unless(self.every > 0, "Step's every (epochs)", "above 0", self.every)
        _refuse_unless(self.factor > 0, "Step's factor", "above 0", self.factor)

    def stretched(self, factor: float) -> Self:
        return replace(self, every=self.every * factor)

    def over(self, epochs: float) -> Curve:
        return lambda t: self.peak * self.factor ** math.floor(t * epochs / self.every + 1e-9)


@dataclass(frozen=True)
class MultiStep:
    """`peak`, multiplied by `factor` at each of the `milestones` (epochs); torch's `MultiStepLR`."""

    peak: float
    milestones: tuple[float, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        _refuse_unless(self.peak > 0, "MultiStep's peak", "above 0", self.peak)
        _refuse_unless(
            list(self.milestones) == sorted(self.milestones) and all(m > 0 for m in self.milestones),
            "MultiStep's milestones (epochs)",
            "rising and above 0",
            self.milestones,
        )
        _refuse_unless(self.factor > 0, "MultiStep's factor", "above 0", self.factor)

    def stretched(self, factor: float) -> Self:
        return replace(self, milestones=tuple(m * factor for m in self.milestones))

    def over(self, epochs: float) -> Curve:
        return lambda t: self.peak * self.factor ** sum(t * epochs + 1e-9 >= m for m in self.milestones)


@dataclass(frozen=True)
class Triangular:
    """Cyclic: from `low` to `high` in `up` epochs and back in `down` (default `up`), again and again.

    `mode="triangular2"` halves the height after every cycle; torch's `CyclicLR`, with the unit explicit and
    the momentum left alone. Reference: https://arxiv.org/abs/1506.01186.
    """

    low: float
    high: float
    up: float
    down: float | None = None
    mode: Literal["triangular", "triangular2"] = "triangular"

    def __post_init__(self) -> None:
        _refuse_unless(0 <= self.low < self.high, "Triangular's low", f"in [0, {self.high})", self.low)
        _refuse_unless(self.up > 0, "Triangular's up (epochs)", "above 0", self.up)
        _refuse_unless(self.down is None or self.down > 0, "Triangular's down (epochs)", "above 0", self.down)
        modes = ("triangular", "triangular2")
        _refuse_unless(self.mode in modes, "Triangular's mode", " or ".join(modes), self.mode)

    def stretched(self, factor: float) -> Self:
        down = None if self.down is None else self.down * factor
        return replace(self, up=self.up * factor, down=down)

    def over(self, epochs: float) -> Curve:
        down = self.up if self.down is None else self.down

        def curve(t: float) -> float:
            cycle, at = divmod(t * epochs, self.up + down)
            height = at / self.up if at < self.up else (self.up + down - at) / down
            shrink = 0.5**cycle if self.mode == "triangular2" else 1.0
            return self.low + (self.high - self.low) * height * shrink

        return curve


@dataclass(frozen=True)
class OneCycle:
    """Up from `peak / start_factor` to `peak` in the first `rise` of the phase, then down to almost nothing.

    Both along cosines; torch's `OneCycleLR`, with the momentum left alone: in a training the last step is at
    `peak / start_factor / end_factor`, and the peak at step `rise * steps - 1`, counted from 0. As a curve of
    progress alone, in a Warmup or where a phase's steps are not known, the end comes after the last step.
    Reference: https://arxiv.org/abs/1708.07120.
    """

    peak: float
    rise: float = 0.3
    start_factor: float = 25.0
    end_factor: float = 1e4

    def __post_init__(self) -> None:
        _refuse_unless(self.peak > 0, "OneCycle's peak", "above 0", self.peak)
        _refuse_unless(0 < self.rise < 1, "OneCycle's rise (part of the phase)", "in (0, 1)", self.rise)
        _refuse_unless(self.start_factor >= 1, "OneCycle's start_factor", "1 or more", self.start_factor)
        _refuse_unless(self.end_factor >= 1, "OneCycle's end_factor", "1 or more", self.end_factor)

    def __call__(self, t: float) -> float:
        return self._between(t, self.rise, 1.0)

    def through(self, steps: int) -> Curve:
        """torch's curve for a training of `steps` steps, which ends with the last of them."""
        return lambda t: self._between(t * steps, self.rise * steps - 1, steps - 1)

    def _between(self, at: float, top: float, end: float) -> float:
        """The value at `at` of a cycle from 0 to `end` whose peak is at `top`."""
        start = self.peak / self.start_factor
        if at < top:
            return _cosine(start, self.peak, at / top)
        return _cosine(self.peak, start / self.end_factor, (at - top) / (end - top))


@dataclass(frozen=True)
class Warmup:
    """A straight line from `start` times the first value of `then`, for `epochs` epochs; `then` for the rest.

    `then` sees the remaining epochs as its whole phase. Reference: https://arxiv.org/abs/1706.02677.
    """

    then: Schedule
    epochs: float
    start: float = 0.0

    def __post_init__(self) -> None:
        _refuse_unless(self.epochs > 0, "Warmup's epochs", "above 0", self.epochs)
        _refuse_unless(
            0 <= self.start <= 1, "Warmup's start (part of the first value)", "in [0, 1]", self.start
        )
        _refuse_unless(
            not isinstance(self.then, Reactive),
            "Warmup's then",
            "a schedule of t (a Plateau reads the history instead: start it after a phase of warm-up)",
            self.then,
        )

    def stretched(self, factor: float) -> Self:
        return replace(self, then=stretched(self.then, factor), epochs=self.epochs * factor)

    def over(self, epochs: float) -> Curve:
        if self.epochs >= epochs:
            raise ValueError(
                f"Warmup's epochs should be below the phase's {epochs:g}, not {self.epochs:g}; "
                "nothing would be left for the schedule after it"
            )
        rest = epochs - self.epochs

        def curve(t: float) -> float:
            at = t * epochs
            if at < self.epochs:
                first = value(self.then, 0.0, epochs=rest)
                return first * (self.start + (1 - self.start) * at / self.epochs)
            return value(self.then, (at - self.epochs) / rest, epochs=rest)

        return curve


@dataclass(frozen=True)
class Early:
    """`then` over the first `epochs` epochs of the phase, as its whole phase; `after` from there on.

    With `after=0`, the default, whatever has this rate stops learning there.
    """

    then: Schedule
    epochs: float
    after: float = 0.0

    def __post_init__(self) -> None:
        _refuse_unless(self.epochs > 0, "Early's epochs", "above 0", self.epochs)
        _refuse_unless(self.after >= 0, "Early's after", "0 or more", self.after)
        _refuse_unless(
            not isinstance(self.then, Reactive),
            "Early's then",
            "a schedule of progress, such as Linear(0.1)",
            self.then,
        )

    def stretched(self, factor: float) -> Self:
        return replace(self, then=stretched(self.then, factor), epochs=self.epochs * factor)

    def stopped(self, t: float, *, epochs: float) -> bool:
        """Whether whatever has this rate learns no more at progress t of a phase of `epochs` epochs."""
        return not self.after and self._ended(t * epochs)

    def _ended(self, at: float) -> bool:
        return at >= self.epochs - 1e-9

    def over(self, epochs: float) -> Curve:
        def curve(t: float) -> float:
            at = t * epochs
            if self._ended(at):
                return self.after
            return value(self.then, at / self.epochs, epochs=self.epochs)

        return curve


@dataclass(frozen=True)
class Plateau:
    """`peak`, multiplied by `factor` whenever `monitor` has not improved for more than `patience` epochs.

    The value is worked out from the history alone, by the rule of torch's `ReduceLROnPlateau` (relative
    threshold 1e-4). `monitor` is "val_loss", "train_loss" (falling is better), "val_accuracy" or
    "train_accuracy" (rising is better). NaN never counts as an improvement.
    """

    peak: float
    factor: float = 0.1
    patience: int = 10
    monitor: str = "val_loss"
    minimum: float = 0.0
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        _refuse_unless(self.peak > 0, "Plateau's peak", "above 0", self.peak)
        _refuse_unless(0 < self.factor < 1, "Plateau's factor", "in (0, 1)", self.factor)
        _refuse_unless(self.patience >= 0, "Plateau's patience (epochs)", "0 or more", self.patience)
        _refuse_unless(
            self.monitor in MONITORS, "Plateau's monitor", "one of " + ", ".join(MONITORS), self.monitor
        )

    def stretched(self, factor: float) -> Self:
        return replace(self, patience=max(0, round(self.patience * factor)))

    def of(self, history: Sequence[Measured]) -> float:
        rising = self.monitor.endswith("accuracy")
        rate, best, bad = self.peak, -math.inf if rising else math.inf, 0
        for epoch in history:
            found = epoch.measure(self.monitor)
            if rising:
                better = found > (best * (1 + self.threshold) if best > -math.inf else best)
            else:
                better = found < (best * (1 - self.threshold) if best < math.inf else best)
            if better:
                best, bad = found, 0
            else:
                bad += 1
            if bad > self.patience:
                rate, bad = max(rate * self.factor, self.minimum), 0
        return rate
