"""Schedules of a phase's progress, in closed form: of t alone, or of epochs with `over(epochs)`."""

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

from budgetnet.schedule.kinds import Curve, Reactive, Schedule, is_schedule, stretched, value
from budgetnet.values import above_zero, number, one_of


def _cosine(start: float, end: float, t: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2


@dataclass(frozen=True)
class Cosine:
    """From `peak` to `final` along half a cosine over the whole phase.

    Reference: https://arxiv.org/abs/1608.03983.
    """

    peak: float
    final: float = 0.0

    def __post_init__(self) -> None:
        above_zero("Cosine's peak", self.peak)
        number("Cosine's final", self.final, least=0)

    def __call__(self, t: float) -> float:
        return _cosine(self.peak, self.final, t)


@dataclass(frozen=True)
class Linear:
    """From `start` to `end` along a straight line over the whole phase."""

    start: float
    end: float = 0.0

    def __post_init__(self) -> None:
        number("Linear's start", self.start, least=0)
        number("Linear's end", self.end, least=0)

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
        above_zero("Restarts's peak", self.peak)
        above_zero("Restarts's first (epochs)", self.first)
        number("Restarts's grow", self.grow, least=1)
        number("Restarts's decay", self.decay, above=0, most=1)
        number("Restarts's final", self.final, least=0)
        number("Restarts's warmup (epochs of the first cycle)", self.warmup, least=0, below=self.first)
        number("Restarts's start (part of each cycle's peak)", self.start, least=0, most=1)

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
        above_zero("Step's peak", self.peak)
        above_zero("Step's every (epochs)", self.every)
        above_zero("Step's factor", self.factor)

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
        above_zero("MultiStep's peak", self.peak)
        given: object = self.milestones
        if not isinstance(given, tuple | list):
            raise ValueError(
                f"MultiStep's milestones (epochs) should be a tuple such as (30, 60), not {given!r}"
            )
        for milestone in given:
            above_zero("each of MultiStep's milestones (epochs)", milestone)
        if list(given) != sorted(given):
            raise ValueError(f"MultiStep's milestones (epochs) should be rising, not {given!r}")
        above_zero("MultiStep's factor", self.factor)

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
        above_zero("Triangular's high", self.high)
        number("Triangular's low", self.low, least=0, below=self.high)
        above_zero("Triangular's up (epochs)", self.up)
        if self.down is not None:
            above_zero("Triangular's down (epochs)", self.down)
        one_of("Triangular's mode", self.mode, ("triangular", "triangular2"))

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
        above_zero("OneCycle's peak", self.peak)
        number("OneCycle's rise (part of the phase)", self.rise, above=0, below=1)
        number("OneCycle's start_factor", self.start_factor, least=1)
        number("OneCycle's end_factor", self.end_factor, least=1)

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


def _check_then(name: str, then: object) -> None:
    if not is_schedule(then):
        raise ValueError(f"{name}'s then should be a schedule such as Cosine(0.1), not {then!r:.100}")


@dataclass(frozen=True)
class Warmup:
    """A straight line from `start` times the first value of `then`, for `epochs` epochs; `then` for the rest.

    `then` sees the remaining epochs as its whole phase. Reference: https://arxiv.org/abs/1706.02677.
    """

    then: Schedule
    epochs: float
    start: float = 0.0

    def __post_init__(self) -> None:
        above_zero("Warmup's epochs", self.epochs)
        number("Warmup's start (part of the first value)", self.start, least=0, most=1)
        _check_then("Warmup", self.then)
        if isinstance(self.then, Reactive):
            raise ValueError(
                "Warmup's then should be a schedule of t (a Plateau reads the history instead: start it "
                f"after a phase of warm-up), not {self.then!r}"
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

    With `after=0`, the default, parameters at this rate stop learning there.
    """

    then: Schedule
    epochs: float
    after: float = 0.0

    def __post_init__(self) -> None:
        above_zero("Early's epochs", self.epochs)
        number("Early's after", self.after, least=0)
        _check_then("Early", self.then)
        if isinstance(self.then, Reactive):
            raise ValueError(
                f"Early's then should be a schedule of progress, such as Linear(0.1), not {self.then!r}"
            )

    def stretched(self, factor: float) -> Self:
        return replace(self, then=stretched(self.then, factor), epochs=self.epochs * factor)

    def stopped(self, t: float, *, epochs: float) -> bool:
        """Whether parameters at this rate learn no more at progress t of a phase of `epochs` epochs."""
        return not self.after and t * epochs >= self.epochs - 1e-9

    def over(self, epochs: float) -> Curve:
        def curve(t: float) -> float:
            if t * epochs >= self.epochs - 1e-9:
                return self.after
            return value(self.then, t * epochs / self.epochs, epochs=self.epochs)

        return curve
