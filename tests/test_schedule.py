"""Schedules against torch's schedulers, stepped once an epoch or once a batch."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

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


def test_one_cycle_is_torchs() -> None:
    # torch counts its last step as the end of the cycle, we count the end of the phase.
    theirs = torch_rates(lambda o: lr_scheduler.OneCycleLR(o, 0.5, total_steps=1001), 0.5, 1001)
    found = ours(OneCycle(0.5), 1000, 10)
    assert max(abs(a - b) for a, b in zip(found, theirs)) < 0.003 * 0.5


def test_restarts_are_torchs_warm_restarts_where_the_peak_stays() -> None:
    def make(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=2)

    theirs = torch_rates(make, 1e-3, 150)
    assert ours(Restarts(1e-3, first=10, grow=2), 150, 150) == pytest.approx(theirs)


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


def test_nan_never_counts_as_better() -> None:
    assert plateau_rates(Plateau(1.0, patience=1), [1.0, math.nan, math.nan])[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "schedule",
    [
        Restarts(0.1, first=4, grow=2, decay=0.5),
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
        (lambda: Cosine(-0.1), "Cosine's peak should be above 0, not -0.1"),
        (lambda: Restarts(0.1, first=0), "first"),
        (lambda: Restarts(0.1, decay=1.5), "decay"),
        (lambda: Step(0.1, every=0), "every"),
        (lambda: MultiStep(0.1, (5, 3)), "rising"),
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
