"""Schedules against torch's schedulers, stepped once an epoch or once a batch."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from budgetnet import Phase
from budgetnet.schedule import (
    Cosine,
    Linear,
    MultiStep,
    OneCycle,
    Plateau,
    Restarts,
    Schedule,
    Step,
    Triangular,
    Warmup,
    acts,
    monitors,
    stretched,
    value,
)


def torch_rates(make: Callable[[torch.optim.Optimizer], Any], lr: float, count: int) -> list[float]:
    """The learning rates of `count` successive steps under one of torch's schedulers."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    scheduler = make(optimizer)
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler.step()
    return rates


def ours(schedule: Schedule, count: int, epochs: float) -> list[float]:
    """The values at `count` even steps through a phase of `epochs` epochs."""
    return [value(schedule, k / count, epochs=epochs) for k in range(count)]


def test_a_number_and_a_function_are_schedules() -> None:
    assert value(0.1, 0.7, epochs=3) == 0.1
    assert value(lambda t: 1 - t, 0.25, epochs=3) == 0.75


def test_cosine_is_torchs() -> None:
    theirs = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=50, eta_min=0.01), 0.3, 50)
    assert ours(Cosine(0.3, 0.01), 50, 50) == pytest.approx(theirs)


def test_linear_is_torchs() -> None:
    theirs = torch_rates(
        lambda o: lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.25, total_iters=40), 0.4, 40
    )
    assert ours(Linear(0.4, 0.1), 40, 40) == pytest.approx(theirs)


def test_step_is_torchs() -> None:
    theirs = torch_rates(lambda o: lr_scheduler.StepLR(o, step_size=30, gamma=0.1), 0.1, 200)
    assert ours(Step(0.1, every=30), 200, 200) == pytest.approx(theirs)


def test_multi_step_is_torchs() -> None:
    theirs = torch_rates(lambda o: lr_scheduler.MultiStepLR(o, [5, 10, 20], gamma=0.1), 0.1, 30)
    assert ours(MultiStep(0.1, (5, 10, 20)), 30, 30) == pytest.approx(theirs)


@pytest.mark.parametrize("mode", ["triangular", "triangular2"])
def test_triangular_is_torchs_and_leaves_the_momentum_alone(mode: str) -> None:
    theirs = torch_rates(
        lambda o: lr_scheduler.CyclicLR(
            o, 1e-4, 0.1, step_size_up=50, step_size_down=30, mode=mode, cycle_momentum=False
        ),
        0.1,
        400,
    )
    schedule = Triangular(1e-4, 0.1, up=5, down=3, mode=mode)  # type: ignore[arg-type]
    assert ours(schedule, 400, 40) == pytest.approx(theirs)


@settings(deadline=None, max_examples=30)
@given(
    up=st.integers(1, 12),
    down=st.integers(1, 12),
    steps=st.integers(1, 9),
    low=st.sampled_from([0.0, 1e-4]),
    high=st.sampled_from([0.01, 0.1]),
)
def test_triangular2_counts_epochs_where_torch_counts_steps(
    up: int, down: int, steps: int, low: float, high: float
) -> None:
    def make(optimizer: torch.optim.Optimizer) -> Any:
        sizes = {"step_size_up": up * steps, "step_size_down": down * steps}
        return lr_scheduler.CyclicLR(optimizer, low, high, **sizes, mode="triangular2", cycle_momentum=False)

    theirs = torch_rates(make, high, 40 * steps)
    schedule = Triangular(low, high, up=up, down=down, mode="triangular2")
    assert ours(schedule, 40 * steps, 40) == pytest.approx(theirs, rel=1e-6, abs=1e-9)


def test_up_of_five_epochs_is_a_cycle_of_ten() -> None:
    schedule = Triangular(1e-4, 0.1, up=5, mode="triangular2")
    peaks = [value(schedule, (5 + 10 * k) / 40, epochs=40) for k in range(4)]
    assert peaks == pytest.approx([1e-4 + 0.0999 / 2**k for k in range(4)])
    assert [value(schedule, k / 40, epochs=40) for k in (0, 10, 20, 30)] == pytest.approx([1e-4] * 4)


@settings(deadline=None, max_examples=30)
@given(
    milestones=st.lists(st.integers(1, 29), min_size=1, max_size=5, unique=True).map(sorted),
    steps=st.integers(1, 9),
    factor=st.sampled_from([0.1, 0.5]),
)
def test_milestones_are_epochs_whatever_the_steps(milestones: list[int], steps: int, factor: float) -> None:
    at = [m * steps for m in milestones]
    theirs = torch_rates(lambda o: lr_scheduler.MultiStepLR(o, at, gamma=factor), 0.1, 30 * steps)
    found = ours(MultiStep(0.1, tuple(milestones), factor), 30 * steps, 30)
    assert found == pytest.approx(theirs)


@pytest.mark.parametrize(("steps", "rise"), [(1000, 0.3), (60, 0.3), (7, 0.5), (3, 0.3), (1, 0.3)])
def test_one_cycle_is_torchs(steps: int, rise: float) -> None:
    def make(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=steps, pct_start=rise)

    cycle = OneCycle(0.5, rise=rise)
    found = [value(cycle, k / steps, epochs=1, steps=steps) for k in range(steps)]
    assert found == pytest.approx(torch_rates(make, 0.5, steps), abs=1e-12)


def test_restarts_are_torchs_warm_restarts_where_the_peak_stays() -> None:
    def make(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=2)

    theirs = torch_rates(make, 1e-3, 150)
    assert ours(Restarts(1e-3, first=10, grow=2), 150, 150) == pytest.approx(theirs)


def test_no_warm_up_is_the_plain_cycle() -> None:
    warm = Restarts(0.5, first=10, grow=2, decay=0.6, warmup=0.0, start=0.3)
    assert ours(warm, 700, 70) == ours(Restarts(0.5, first=10, grow=2, decay=0.6), 700, 70)


@settings(deadline=None, max_examples=30)
@given(
    first=st.integers(6, 12),
    warmup=st.integers(1, 5),
    grow=st.sampled_from([1.0, 1.5, 2.0]),
    decay=st.sampled_from([0.5, 1.0]),
    start=st.sampled_from([0.0, 0.1, 1.0]),
    steps=st.sampled_from([1, 3, 10]),
)
def test_restarts_with_a_warm_up_are_a_scheduler_that_is_made_anew_each_cycle(
    first: int, warmup: int, grow: float, decay: float, start: float, steps: int
) -> None:
    expected: list[float] = []
    peak, length = 0.5, float(first)
    while len(expected) < 60 * steps:
        rise, total, top = warmup * steps, round(length * steps), max(peak, 0.01)
        for k in range(total):
            if k < rise:
                expected.append(top * (start + (1 - start) * k / rise))
            else:
                through = (k - rise) / (length * steps - rise)
                expected.append(0.01 + (top - 0.01) * (1 + math.cos(math.pi * through)) / 2)
        if length * steps != total:
            return  # a cycle that ends within a step has no counterpart that counts steps
        peak, length = peak * decay, length * grow
    schedule = Restarts(0.5, first, grow, decay, final=0.01, warmup=warmup, start=start)
    found = ours(schedule, 60 * steps, 60)
    assert found == pytest.approx(expected[: 60 * steps], rel=1e-6, abs=1e-9)


def test_the_first_warm_cycle_is_torchs_linear_then_cosine() -> None:
    def make(optimizer: torch.optim.Optimizer) -> Any:
        rise = lr_scheduler.LinearLR(optimizer, start_factor=0.1, end_factor=1.0, total_iters=50)
        fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=250)
        return lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[50])

    theirs = torch_rates(make, 0.5, 300)
    schedule = Restarts(0.5, first=30, grow=1, warmup=5, start=0.1)
    assert ours(schedule, 300, 30) == pytest.approx(theirs)


def test_seed_004_warms_up_every_thirty_epochs() -> None:
    schedule = Restarts(0.5, first=30, grow=1, warmup=5)
    at = {k: value(schedule, k / 300, epochs=300) for k in range(300)}
    assert [k for k in at if at[k] < 1e-12] == list(range(0, 300, 30))
    assert [k for k in at if at[k] == pytest.approx(0.5)] == list(range(5, 300, 30))
    assert at[32] == pytest.approx(0.2)
    assert value(schedule, 29.99 / 300, epochs=300) < 1e-5


def test_shrinking_peaks_start_each_cycle() -> None:
    schedule = Restarts(1e-3, first=10, grow=2, decay=0.6)
    for start, peak in ((0, 1e-3), (10, 6e-4), (30, 3.6e-4), (70, 2.16e-4), (150, 1.296e-4)):
        assert value(schedule, start / 300, epochs=300) == pytest.approx(peak)


def test_no_epoch_is_dead() -> None:
    rates = ours(Restarts(1e-3, first=10, grow=2, decay=0.6), 300 * 100, 300)
    means = [sum(rates[k : k + 100]) / 100 for k in range(0, len(rates), 100)]
    assert min(means) > 1e-9


def test_whole_epochs_repeat_what_seed_000_ran() -> None:
    # One dead epoch a cycle at 0-based epochs 10, 31, 72, 153; restarts at 11, 32, 73, 154 (seeds.md).
    schedule = Restarts(1e-3, first=10, grow=2, decay=0.6, whole_epochs=True)
    rates = ours(schedule, 300, 300)
    assert [k for k, rate in enumerate(rates) if rate < 1e-12] == [10, 31, 72, 153]
    for start, peak in ((11, 6e-4), (32, 3.6e-4), (73, 2.16e-4), (154, 1.296e-4)):
        assert rates[start] == pytest.approx(peak)
    assert rates[5] == pytest.approx(5e-4)
    within = [value(schedule, (5 + k / 8) / 300, epochs=300) for k in range(8)]
    assert len(set(within)) == 1


def test_warm_up_climbs_to_the_schedule_after_it() -> None:
    schedule = Warmup(Cosine(0.1), epochs=5)
    assert value(schedule, 0.0, epochs=20) == 0.0
    assert value(schedule, 2.5 / 20, epochs=20) == pytest.approx(0.05)
    rest = [value(schedule, (5 + k) / 20, epochs=20) for k in range(15)]
    assert rest == pytest.approx([Cosine(0.1)(k / 15) for k in range(15)])


def test_warm_up_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="below the phase's 5, not 5"):
        value(Warmup(0.1, epochs=5), 0.0, epochs=5)


@dataclass
class Finished:
    val_loss: float

    def measure(self, name: str) -> float:
        return float(getattr(self, name))


def plateau_rates(schedule: Plateau, losses: Sequence[float]) -> list[float]:
    return [schedule.of([Finished(loss) for loss in losses[:k]]) for k in range(1, len(losses) + 1)]


@given(
    st.lists(st.floats(0.1, 10) | st.sampled_from([1.0, 1.00005, 0.99995]), max_size=40),
    st.integers(0, 4),
)
def test_plateau_is_torchs_on_any_history(losses: list[float], patience: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, eps=0.0)
    theirs = []
    for loss in losses:
        scheduler.step(loss)
        theirs.append(optimizer.param_groups[0]["lr"])
    assert plateau_rates(Plateau(0.1, factor=0.5, patience=patience), losses) == pytest.approx(theirs)


@dataclass
class Judged:
    val_accuracy: float

    def measure(self, name: str) -> float:
        return float(getattr(self, name))


@given(st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.50004, 0.6, 0.9]), max_size=40), st.integers(0, 3))
def test_plateau_on_accuracy_with_a_minimum_is_torchs(accuracies: list[float], patience: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.1, patience=patience, min_lr=1e-5, eps=0.0
    )
    schedule = Plateau(0.01, patience=patience, monitor="val_accuracy", minimum=1e-5)
    for count, accuracy in enumerate(accuracies, start=1):
        scheduler.step(accuracy)
        found = schedule.of([Judged(a) for a in accuracies[:count]])
        assert found == pytest.approx(optimizer.param_groups[0]["lr"])


def test_a_minimum_leaves_the_vgg_paper_its_three_divisions_by_ten() -> None:
    schedule = Plateau(1e-2, factor=0.1, patience=2, monitor="val_accuracy", minimum=1e-5)
    rates = [schedule.of([Judged(0.5)] * count) for count in range(30)]
    drops = [k for k in range(1, 30) if rates[k] < rates[k - 1] * 0.5]
    assert drops == [4, 7, 10]
    assert rates[-1] == pytest.approx(1e-5)


def test_nan_never_counts_as_better() -> None:
    assert plateau_rates(Plateau(1.0, patience=1), [1.0, math.nan, math.nan])[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "schedule",
    [
        Restarts(0.1, first=4, grow=2, decay=0.5),
        Restarts(0.1, first=4, grow=2, decay=0.5, warmup=1, start=0.2),
        Step(0.1, every=6),
        MultiStep(0.1, (3, 9)),
        Triangular(0.01, 0.1, up=3),
        Warmup(Restarts(0.1, first=5), epochs=2),
        Cosine(0.1),
        0.1,
    ],
)
@given(t=st.floats(0, 1, exclude_max=True), factor=st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_a_stretched_schedule_is_the_same_curve(schedule: Schedule, t: float, factor: float) -> None:
    before = value(schedule, t, epochs=24)
    after = value(stretched(schedule, factor), t, epochs=24 * factor)
    assert after == pytest.approx(before, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Cosine(-0.1), "Cosine's peak should be a number above 0, not -0.1"),
        (lambda: Restarts(0.1, first=0), "first"),
        (lambda: Restarts(0.1, decay=1.5), "decay"),
        (lambda: Restarts(0.1, first=5, warmup=5), "warmup .* below 5, not 5"),
        (lambda: Restarts(0.1, warmup=-1), "warmup"),
        (lambda: Restarts(0.1, warmup=2, start=1.5), "start"),
        (lambda: Step(0.1, every=0), "every"),
        (lambda: MultiStep(0.1, (5, 3)), "rising"),
        (lambda: MultiStep(0.1, 30), "should be a tuple such as"),
        (lambda: MultiStep(0.1, ("30",)), "each of MultiStep's milestones"),
        (lambda: Triangular(0.1, 0.01, up=3), "low"),
        (lambda: Triangular(0.01, 0.1, up=3, mode="triangle"), "mode"),  # type: ignore[arg-type]
        (lambda: OneCycle(0.1, rise=1.0), "rise"),
        (lambda: Plateau(0.1, monitor="loss"), "monitor"),
        (lambda: Warmup(Plateau(0.1), epochs=1), "Plateau"),
    ],
)
def test_impossible_numbers_are_refused_by_name(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@dataclass(frozen=True)
class Halving:
    """A schedule of history of somebody's own, that reads epochs as it likes."""

    patience: int = 4

    def of(self, history: Sequence[Any]) -> float:
        losses = [epoch.val_loss for epoch in history]
        since = len(losses) - 1 - losses.index(min(losses)) if losses else 0
        return 0.1 * 0.5 ** (since // self.patience)


class Said:
    """The same, that says what it reads and how it is stretched."""

    monitor = "val_accuracy"

    def __init__(self, every: float) -> None:
        self.every = every

    def of(self, history: Sequence[Any]) -> float:
        return 0.1 * 0.5 ** (len(history) // self.every)

    def stretched(self, factor: float) -> "Said":
        return Said(self.every * factor)


def test_what_a_schedule_of_history_reads_is_found_or_said() -> None:
    assert monitors(Halving()) == {"val_loss"}
    assert monitors(Plateau(0.1, monitor="train_loss")) == {"train_loss"}
    assert monitors(Said(3)) == {"val_accuracy"}
    assert monitors(0.1) == monitors(Cosine(0.1)) == set()


def test_a_schedule_of_history_of_ones_own_is_scaled_as_plateau_is() -> None:
    assert stretched(Halving(4), 0.5) == Halving(2)
    assert stretched(Plateau(0.1, patience=4), 0.5) == Plateau(0.1, patience=2)
    longer = stretched(Said(3), 2)
    assert isinstance(longer, Said)
    assert longer.every == 6

    class Waiting:
        patience = 10

        def of(self, history: Sequence[Any]) -> float:
            return 0.1

    shorter = stretched(Waiting(), 0.1)
    assert isinstance(shorter, Waiting)
    assert (shorter.patience, Waiting.patience) == (1, 10)


def test_a_schedule_acts_after_so_many_flat_epochs() -> None:
    for patience in (0, 1, 5):
        assert acts(Plateau(0.1, patience=patience), 20) == patience + 2
    assert acts(Halving(3), 20) == 4
    assert acts(Plateau(0.1, patience=30), 20) is None


class Falling:
    """A schedule of progress of somebody's own: `over` is all that it needs."""

    def over(self, epochs: float) -> Callable[[float], float]:
        return lambda t: 0.1 / (1 + t * epochs)


def test_a_schedule_of_epochs_of_ones_own_needs_no_more_than_over() -> None:
    phase = Phase(epochs=4, resolution=8, lr=Falling())
    assert value(phase.lr, 0.5, epochs=4) == 0.1 / 3
    assert phase.scaled(0.5).lr is phase.lr
