"""Spending a budget: the best setting of the free knobs, against counting every one of them."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from budgetnet.budget import Budget, DoesNotFit, OverBudget, Spent, built, count, ledger


def network(width: int, depth: int, classes: int = 10) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
    for _ in range(depth):
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def best_of_all(budget: Budget, knobs: dict[str, Any], **fixed: Any) -> dict[str, Any]:
    """The reference: every setting, the one whose tightest limit has the smallest share left."""
    found: list[tuple[float, dict[str, Any]]] = []
    for values in itertools.product(*knobs.values()):
        setting = dict(zip(knobs, values, strict=True))
        costs = ledger(network(**setting, **fixed), budget.resolution)
        shares = [getattr(costs, limit) / most for limit, most in budget.limits.items()]
        if max(shares) <= 1:
            found.append((max(shares), setting))
    return max(found, key=lambda each: each[0])[1]


def test_the_setting_with_least_slack_is_taken_and_reported() -> None:
    budget = Budget("2M")
    spent = budget.spend(network, knobs={"width": range(8, 513, 8), "depth": (2, 3, 4)}, classes=10)
    by_formula = {
        (width, depth): 28 * width + depth * (9 * width * width + 2 * width) + 10 * width + 10
        for width in range(8, 513, 8)
        for depth in (2, 3, 4)
    }
    params, (width, depth) = max((cost, key) for key, cost in by_formula.items() if cost <= 2_000_000)
    assert spent.knobs == {"width": width, "depth": depth}
    assert spent.ledger.params == params
    assert spent.slack == {"params": 2_000_000 - params}
    assert spent.tried < 40  # of 192
    step = spent.next["width"]
    assert step is not None
    assert step.value == width + 8
    assert step.costs == {"params": by_formula[width + 8, depth]}
    assert step.over == {"params": by_formula[width + 8, depth] - 2_000_000}
    model = spent.build()
    assert sum(parameter.numel() for parameter in model.parameters()) == params
    how = built(model)
    assert how is not None
    assert how.kwargs == {"width": width, "depth": depth, "classes": 10}
    assert how.budget == budget


def test_the_report_reads() -> None:
    spent = Budget("100k").widest(lambda width: nn.Linear(64, width), range(100, 1600, 100))
    assert str(spent).splitlines() == [
        "width=1500",
        "  97,500 of 100,000 parameters, 2,500 left",
        "  width: the last value offered",
        "  15 settings counted",
    ]
    spent = Budget("50k").widest(lambda width: nn.Linear(64, width), range(100, 1600, 100))
    assert "  width: width=800 would cost 52,000 parameters, 2,000 over" in str(spent).splitlines()


@pytest.mark.parametrize(
    "budget",
    [
        Budget("60k"),
        Budget("60k", macs="6M", resolution=16),
        Budget("60k", macs="30M", resolution=16),
        Budget(bytes="300KB"),
        Budget(macs="5M", resolution=16, bytes="99KB"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("widths", [(4, 8, 16, 24), range(4, 60, 4)], ids=["few", "many"])
def test_every_limit_counts_and_bisection_finds_what_counting_all_finds(budget: Budget, widths: Any) -> None:
    knobs = {"depth": (1, 2, 3), "width": widths}
    spent = budget.spend(network, knobs, classes=4)
    assert spent.knobs == best_of_all(budget, knobs, classes=4)
    assert all(left >= 0 for left in spent.slack.values())
    assert set(spent.slack) == set(budget.limits)
    for step in spent.next.values():
        assert step is None or max(step.over.values()) > 0


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    other=st.lists(st.integers(0, 300), min_size=1, max_size=3),
    limit=st.integers(1, 1500),
)
def test_rising_costs_are_searched_exactly(steps: list[int], other: list[int], limit: int) -> None:
    long = list(itertools.accumulate(steps))
    short = list(itertools.accumulate(other))
    costs = {(a, b): long[a] + short[b] for a in range(len(long)) for b in range(len(short))}
    fitting = [cost for cost in costs.values() if cost <= limit]

    def make(a: int, b: int) -> nn.Module:
        return nn.Linear(1, costs[a, b], bias=False)

    knobs = {"a": range(len(long)), "b": range(len(short))}
    if not fitting:
        with pytest.raises(OverBudget, match="the smallest of"):
            Budget(limit).spend(make, knobs)
        return
    spent = Budget(limit).spend(make, knobs)
    assert spent.ledger.params == max(fitting)
    assert spent.tried <= max(24, 3 * (2 + 7))


def test_costs_that_do_not_rise_are_all_counted() -> None:
    widths = [*range(2, 60, 2), 99, *range(60, 90, 2), 1]
    spent = Budget(95).widest(lambda width: nn.Linear(1, width, bias=False), widths)
    assert spent.knobs == {"width": 88}
    assert spent.tried == len(widths)
    falling = Budget(51).widest(lambda width: nn.Linear(1, width, bias=False), range(90, 0, -1))
    assert falling.knobs == {"width": 51}


def test_nothing_is_built_for_real_before_build() -> None:
    devices: list[str] = []

    def make(width: int) -> nn.Module:
        devices.append(torch.empty(1).device.type)
        return nn.Linear(10, width)

    state = torch.get_rng_state()
    spent = Budget("1k").widest(make, range(1, 500))
    assert set(devices) == {"meta"}
    assert torch.equal(torch.get_rng_state(), state)
    model = spent.build()
    assert devices[-1] == "cpu"
    assert isinstance(model, nn.Linear)
    how = built(model)
    assert how is not None
    assert (how.args, how.kwargs) == ((90,), {})


def test_when_nothing_fits_the_smallest_is_named_with_its_cost() -> None:
    smallest = count(network, 8, 2)
    with pytest.raises(OverBudget) as refusal:
        Budget(1000).spend(network, knobs={"width": range(8, 513, 8), "depth": (2, 3, 4)})
    assert f"width=8, depth=2, does not fit: {smallest:,} parameters is {smallest - 1000:,} over" in str(
        refusal.value
    )
    assert f"allow Budget(params={smallest:_})" in str(refusal.value)
    assert refusal.value.ledger.params == smallest
    Budget(smallest).spend(network, knobs={"width": range(8, 513, 8), "depth": (2, 3, 4)})


@pytest.mark.slow
def test_settings_far_over_the_budget_are_neither_built_nor_waited_for() -> None:
    def make(layers: int) -> nn.Module:
        return nn.Sequential(*(nn.Linear(1000, 1000) for _ in range(layers)))

    spent = Budget("2M").widest(make, (1, 10**9))
    assert spent.knobs == {"width": 1}
    assert "out of reach: more than" in str(spent)
    with pytest.raises(OverBudget, match="does not fit: more than"):
        Budget(1).widest(make, (10**8, 10**9))


@pytest.mark.slow
def test_settings_that_collapse_at_the_resolution_are_passed_over() -> None:
    budget = Budget("1M", macs="1G", resolution=16)
    spent = budget.spend(network, knobs={"width": (8, 16), "depth": (3, 4, 5, 6)})
    assert spent.knobs == {"width": 16, "depth": 4}
    step = spent.next["depth"]
    assert step is not None
    assert "does not fit at 16x16" in step.note
    with pytest.raises(DoesNotFit, match="within budget but cannot run"):
        budget.spend(network, knobs={"width": (8, 16), "depth": (5, 6)})
    with pytest.raises(DoesNotFit, match="within budget but cannot run"):
        Budget(macs="1G", resolution=16).spend(network, knobs={"width": (8, 16), "depth": (5, 6)})


@pytest.mark.parametrize(
    ("knobs", "fixed", "says"),
    [
        ({}, {}, "there is no knob to turn"),
        ({"width": ()}, {}, "the knob width has no values in"),
        ({"width": 8}, {}, "the knob width has no values in 8"),
        ({"width": "wide"}, {}, "the knob width has no values in 'wide'"),
        ({"width": (8,)}, {"width": 9}, "width is both a knob and a fixed argument"),
    ],
)
def test_knobs_that_cannot_be_turned_are_refused(knobs: Any, fixed: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Budget("1M").spend(network, knobs, **fixed)


def test_an_error_of_the_builder_says_at_which_setting() -> None:
    with pytest.raises(ZeroDivisionError) as error:
        Budget("1M").widest(lambda width: nn.Linear(8 // width, 1), (4, 0))
    assert error.value.__notes__ == ["while counting width=0"]


def test_a_search_may_be_over_any_values_in_any_iterable() -> None:
    stages = (value for value in ((8,), (8, 8), (8, 8, 8)))
    spent: Spent = Budget(200).widest(
        lambda widths: nn.Sequential(*(nn.Linear(8, w) for w in widths)), stages
    )
    assert spent.knobs == {"width": (8, 8)}
