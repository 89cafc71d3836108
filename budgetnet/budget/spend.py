"""The search that spends a budget: which setting of a builder's free knobs leaves the least of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import Any, Protocol

from torch import nn

from budgetnet.budget.amounts import shown
from budgetnet.budget.counting import ledger
from budgetnet.budget.fit import DoesNotFit
from budgetnet.budget.latency import latency, untimed
from budgetnet.budget.ledger import Ledger, Stored
from budgetnet.budget.meta import BuildingStopped, build_on_meta
from budgetnet.budget.refusal import OverBudget, allowance, excesses, numbers_over, over_while_building, unit
from budgetnet.randomness import own_randomness

_FEW = 24  # settings that are all counted: a network on meta takes tens of milliseconds

Point = tuple[int, ...]  # the position of each knob's value in its list

Plan = Callable[..., "partial[nn.Module]"]
"""From a setting to the call of `Budget.build` that would build it."""


@dataclass(frozen=True)
class StepUp:
    """One knob one value up: its costs, how much each is `over` its limit, and why it is out of reach."""

    value: Any
    costs: Mapping[str, int]
    over: Mapping[str, int]
    note: str = ""


@dataclass(frozen=True, repr=False)
class Spent:
    """How a budget was spent: the chosen `knobs`, their `ledger`, and the `slack` left of each limit.

    `next` is, for each knob, what one step up would cost, None where the last value was taken; `tried` is the
    number of settings counted.
    """

    knobs: Mapping[str, Any]
    ledger: Ledger
    slack: Mapping[str, int]
    next: Mapping[str, StepUp | None]
    tried: int
    plan: partial[nn.Module]

    def build(self) -> nn.Module:
        """The chosen network for real, through `Budget.build`; its latency was measured by the search."""
        with untimed():
            return self.plan()

    def __repr__(self) -> str:
        lines = [_setting(self.knobs)]
        for limit, left in self.slack.items():
            cost = self.ledger.cost(limit) or 0
            used, most, rest = (shown(limit, each) for each in (cost, cost + left, left))
            lines.append(f"  {used} of {most} {unit(limit, self.ledger)}, {rest} left")
        for knob, step in self.next.items():
            lines.append(f"  {knob}: {_next(knob, step, self.ledger)}")
        return "\n".join([*lines, f"  {self.tried:,} settings counted"])


class Limited(Protocol):
    """A budget, as the search sees it."""

    @property
    def limits(self) -> dict[str, int]:
        """The most of each cost."""

    @property
    def resolution(self) -> int | None:
        """The pixels at which MACs and RAM are counted."""

    @property
    def stored(self) -> Stored | None:
        """How the file that ships has its weights."""


def early(budget: Limited) -> dict[str, int]:
    """The limits that a builder may be stopped by: bytes only where they are those of its tensors."""
    return {limit: most for limit, most in budget.limits.items() if limit != "bytes" or budget.stored is None}


def spend(plan: Plan, knobs: Mapping[str, Iterable[Any]], budget: Limited) -> Spent:
    """The search behind `Budget.spend` and `Budget.widest`."""
    limits = budget.limits
    values = {knob: tuple(_values(knob, given)) for knob, given in knobs.items()}
    if not values:
        raise ValueError('there is no knob to turn: give knobs={"width": range(8, 513, 8)}')
    search = _Search(plan, values, budget)
    search.run()
    best = search.best()
    if best is None:
        raise search.nothing_fits()
    counted = len(search.trials)  # before the steps up
    return Spent(
        knobs=search.setting(best.point),
        ledger=best.ledger,
        slack={limit: -over for limit, over in excesses(best.ledger, limits).items()},
        next={knob: search.step(best.point, axis) for axis, knob in enumerate(values)},
        tried=counted,
        plan=plan(**search.setting(best.point)),
    )


@dataclass(frozen=True)
class _Trial:
    point: Point
    ledger: Ledger
    note: str = ""  # why the ledger is not the whole cost


@dataclass
class _Search:
    plan: Plan
    values: dict[str, tuple[Any, ...]]
    budget: Limited
    trials: dict[Point, _Trial] = field(default_factory=dict)
    timed: dict[Point, _Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.limits = self.budget.limits

    def run(self) -> None:
        lengths = [len(given) for given in self.values.values()]
        if math.prod(lengths) <= _FEW:
            for point in itertools.product(*(range(length) for length in lengths)):
                self.at(point)
            return
        axis = max(range(len(lengths)), key=lambda at: (lengths[at], at))
        others = [range(1) if at == axis else range(length) for at, length in enumerate(lengths)]
        for point in itertools.product(*others):
            self._bisect(point, axis)

    def _bisect(self, point: Point, axis: int) -> None:
        """Looks for the last value along one axis that fits; counts every one if costs do not rise."""
        length = len(list(self.values.values())[axis])
        line = {index: self.at(_moved(point, axis, index)) for index in (0, length - 1)}
        low, high = -1, length
        while high - low > 1:
            middle = (low + high) // 2
            trial = line[middle] = self.at(_moved(point, axis, middle))
            low, high = (middle, high) if self.fits(trial) else (low, middle)
        unclear = low < 0 and any(trial.note for trial in line.values())
        if unclear or not self._rises([line[index] for index in sorted(line)]):
            for index in range(length):
                self.at(_moved(point, axis, index))

    def _rises(self, trials: list[_Trial]) -> bool:
        for limit in self.limits:
            costs = [trial.ledger.cost(limit) for trial in trials if not trial.note]
            known = [cost for cost in costs if cost is not None]
            if known != sorted(known):
                return False
        return True

    def at(self, point: Point) -> _Trial:
        """The trial of one setting, made once; MACs only of a network that is within budget without them."""
        if point not in self.trials:
            self.trials[point] = self._count(point, in_full=False)
        return self.trials[point]

    def _count(self, point: Point, *, in_full: bool) -> _Trial:
        plan = self.plan(**self.setting(point))
        make, *args = plan.args
        try:
            model = build_on_meta(make, tuple(args), plan.keywords, early(self.budget))
            costs = ledger(model, stored=self.budget.stored)
            if self.budget.resolution is not None and (in_full or _within(costs, self.limits)):
                costs = ledger(model, self.budget.resolution, stored=self.budget.stored)
        except BuildingStopped as stop:
            refusal = over_while_building(stop, self.limits)
            return _Trial(point, refusal.ledger, str(refusal))
        except DoesNotFit as misfit:
            return _Trial(point, costs, str(misfit))
        except Exception as error:
            error.add_note(f"while counting {_setting(self.setting(point))}")
            raise
        return _Trial(point, costs)

    def fits(self, trial: _Trial) -> bool:
        return not trial.note and _within(trial.ledger, self.limits) and self._quick(trial)

    def best(self) -> _Trial | None:
        """The trial that leaves least of the limits that are counted; of a latency it was measured itself."""
        fitting = [
            each for each in self.trials.values() if not each.note and _within(each.ledger, self.limits)
        ]
        if "latency" in self.limits:
            fitting.sort(key=_macs)
            low, high = 0, len(fitting)
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if self._quick(fitting[middle]) else (low, middle)
            fitting = [trial for trial in fitting if self._quick(trial)]
        for trial in sorted(fitting, key=self._rank, reverse=True):
            timed = self._timed(trial)
            if _within(timed.ledger, self.limits):
                return timed
        return None

    def _rank(self, trial: _Trial) -> tuple[Fraction, int]:
        return self.spent(trial), _macs(trial) if "latency" in self.limits else 0

    def _quick(self, trial: _Trial) -> bool:
        """Whether a trial keeps the latency; one of fewer MACs than a quick one is taken to be quick."""
        if "latency" not in self.limits:
            return True
        timed = self.timed.values()
        if any(_macs(trial) <= _macs(each) for each in timed if _within(each.ledger, self.limits)):
            return True
        if any(_macs(trial) >= _macs(each) for each in timed if not _within(each.ledger, self.limits)):
            return False
        return _within(self._timed(trial).ledger, self.limits)

    def _timed(self, trial: _Trial) -> _Trial:
        """The same with its latency, measured once, where that is limited."""
        if "latency" not in self.limits or self.budget.resolution is None:
            return trial
        if trial.point not in self.timed:
            make, *args = (plan := self.plan(**self.setting(trial.point))).args
            with own_randomness():
                taken = latency(make(*args, **plan.keywords), self.budget.resolution)
            self.timed[trial.point] = replace(trial, ledger=replace(trial.ledger, latency=taken))
        return self.timed[trial.point]

    def spent(self, trial: _Trial) -> Fraction:
        """The share of its tightest limit that a trial uses."""
        over = excesses(trial.ledger, self.limits)
        shares = (Fraction(excess, self.limits[limit]) for limit, excess in over.items())
        return 1 + max(shares, default=Fraction(0))

    def step(self, point: Point, axis: int) -> StepUp | None:
        """What the next value of one knob would cost, None after the last."""
        given = list(self.values.values())[axis]
        index = point[axis] + 1
        if index == len(given):
            return None
        trial = self._count(_moved(point, axis, index), in_full=True)
        if not trial.note and _within(trial.ledger, self.limits):
            trial = self._timed(trial)
        over = excesses(trial.ledger, self.limits)
        return StepUp(
            given[index], {limit: trial.ledger.cost(limit) or 0 for limit in over}, over, trial.note
        )

    def setting(self, point: Point) -> dict[str, Any]:
        return {knob: given[index] for (knob, given), index in zip(self.values.items(), point, strict=True)}

    def nothing_fits(self) -> OverBudget | DoesNotFit:
        smallest = (
            min(self.timed.values(), key=_macs) if self.timed else min(self.trials.values(), key=self._rank)
        )
        over = [limit for limit, excess in excesses(smallest.ledger, self.limits).items() if excess > 0]
        which = (
            f"the smallest of {len(self.trials):,} settings counted, {_setting(self.setting(smallest.point))}"
        )
        if not over:
            return DoesNotFit(f"{which}, is within budget but cannot run: {smallest.note}")
        if smallest.note:
            return OverBudget(f"{which}, does not fit: {smallest.note}", smallest.ledger)
        numbers = " and ".join(numbers_over(smallest.ledger, limit, self.limits[limit]) for limit in over)
        return OverBudget(
            f"{which}, does not fit: {numbers}; offer smaller values, or allow "
            f"{allowance(smallest.ledger, self.limits)}",
            smallest.ledger,
        )


def _within(costs: Ledger, limits: Mapping[str, int]) -> bool:
    return all(excess <= 0 for excess in excesses(costs, limits).values())


def _macs(trial: _Trial) -> int:
    return trial.ledger.macs or 0


def _moved(point: Point, axis: int, index: int) -> Point:
    return (*point[:axis], index, *point[axis + 1 :])


def _values(knob: str, given: Iterable[Any]) -> Iterable[Any]:
    values = () if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    if not values:
        raise ValueError(
            f"the knob {knob} has no values in {given!r}: list at least one, in order of rising cost"
        )
    return values


def _setting(knobs: Mapping[str, Any]) -> str:
    return ", ".join(f"{knob}={value!r}" for knob, value in knobs.items())


def _next(knob: str, step: StepUp | None, counted: Ledger) -> str:
    if step is None:
        return "the last value offered"
    if step.note:
        return f"{knob}={step.value!r} is out of reach: {step.note}"
    costs = (
        f"{shown(limit, step.costs[limit])} {unit(limit, counted)}, {shown(limit, abs(over))} "
        f"{'over' if over > 0 else 'left'}"
        for limit, over in step.over.items()
    )
    return f"{knob}={step.value!r} would cost {' and '.join(costs)}"
