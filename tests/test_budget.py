"""Budgets: what they accept, what they refuse and how, what they build, and what fits at a resolution."""

import functools
import json
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from budgetnet.budget import (
    Budget,
    Built,
    DoesNotFit,
    NotFromScratch,
    OverBudget,
    built,
    check_fit,
    count,
    external,
    ledger,
)


def network(width: int = 8, classes: int = 10) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2M", 2_000_000),
        ("300k", 300_000),
        ("1.5M", 1_500_000),
        ("10B", 10_000_000_000),
        ("2_000_000", 2_000_000),
        ("2,000,000", 2_000_000),
        ("0.5k", 500),
        ("1.996986M", 1_996_986),  # which no binary fraction is exactly
        ("1e6", 1_000_000),
        (2e6, 2_000_000),
        (np.int64(7), 7),
        (1, 1),
    ],
)
def test_parameters_are_numbers_or_written(written: Any, meant: int) -> None:
    assert Budget(params=written).params == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [("300KB", 300_000), ("300KiB", 307_200), ("8MB", 8_000_000), ("1.5MiB", 1_572_864), ("10B", 10), (7, 7)],
)
def test_bytes_are_decimal_or_binary_as_written(written: Any, meant: int) -> None:
    assert Budget(bytes=written).bytes == meant


@pytest.mark.parametrize("limit", ["params", "macs", "bytes", "ram"])
@pytest.mark.parametrize(
    "nonsense",
    [
        "two",
        "",
        "M",
        "-2M",
        "2X",
        "1.5",
        "1,5M",
        "1,50k",
        "20,00,000",
        "1.00001k",
        "nan",
        -1,
        0,
        "0",
        True,
        False,
        1.5,
        float("nan"),
        [2],
        b"2",
    ],
)
def test_nonsense_is_refused_in_one_sentence_with_the_way_out(limit: str, nonsense: Any) -> None:
    with pytest.raises(
        ValueError, match="is not a budget, which is a whole number above 0: write"
    ) as refusal:
        Budget(**{limit: nonsense}, resolution=96)
    assert f"{limit}={nonsense!r}" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("unit", ["KB", "KiB", "MB"])
def test_parameters_are_not_bytes(unit: str) -> None:
    with pytest.raises(ValueError, match="is not a budget"):
        Budget(params=f"300{unit}")


def test_macs_need_the_resolution_they_are_counted_at() -> None:
    with pytest.raises(
        ValueError, match=r"macs='4M' needs the resolution .* Budget\(macs='4M', resolution=96\)"
    ):
        Budget(macs="4M")
    for nonsense in (0, -3, 1.5, "96", True):
        with pytest.raises(ValueError, match=f"resolution={nonsense!r} is not a whole number of pixels"):
            Budget(macs="4M", resolution=nonsense)  # type: ignore[arg-type]
    assert Budget(macs="4M", resolution=96).macs == 4_000_000


def test_a_budget_without_limits_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one limit"):
        Budget()
    with pytest.raises(ValueError, match="needs at least one limit"):
        Budget(resolution=96)


def test_a_budget_is_a_value() -> None:
    budget = Budget("2M", macs="400M", resolution=96, bytes="8MB")
    assert budget == Budget(params=2_000_000, macs=400_000_000, resolution=96, bytes=8_000_000)
    assert hash(budget) == hash(Budget("2M", macs="400M", resolution=96, bytes="8MB"))
    assert budget != Budget("2M")
    assert repr(Budget("2M")) == "Budget(params=2_000_000)"
    assert eval(repr(budget)) == budget
    assert replace(budget, params=5).params == 5
    assert pickle.loads(pickle.dumps(budget)) == budget
    with pytest.raises(FrozenInstanceError):
        budget.params = 3  # type: ignore[misc]


@given(
    params=st.none() | st.integers(1, 10**12),
    macs=st.none() | st.integers(1, 10**12),
    size=st.none() | st.integers(1, 4096),
    saved=st.integers(1, 10**12),
    scratch=st.booleans(),
)
def test_a_described_budget_reads_back(params: Any, macs: Any, size: Any, saved: int, scratch: bool) -> None:
    budget = Budget(params, macs=macs if size else None, resolution=size, bytes=saved, scratch=scratch)
    assert eval(repr(budget)) == budget
    assert Budget.read(json.loads(json.dumps(budget.describe()))) == budget


@pytest.mark.parametrize(
    "described", [{"parameters": 3}, [], "2M", {}, {"params": "many"}, {"params": 1, "scratch": 1}]
)
def test_a_description_of_something_else_is_refused(described: Any) -> None:
    with pytest.raises(ValueError, match="budget"):
        Budget.read(described)


def test_the_refusal_says_the_numbers_the_place_the_largest_parts_and_the_way_out() -> None:
    with pytest.raises(OverBudget) as refusal:
        Budget("2M").build(torchvision.models.mobilenet_v2, num_classes=10)
    assert str(refusal.value) == (
        "2,236,682 parameters is 236,682 over the budget of 2,000,000; the line is crossed in features.18.0; "
        "largest: features 2,223,872, classifier 12,810; make it narrower or shallower, let "
        "budget.spend(make, knobs) find the largest that fits, or allow Budget(params=2_236_682)"
    )
    assert isinstance(refusal.value, ValueError)
    assert refusal.value.ledger.params == 2_236_682
    Budget(params=2_236_682).build(torchvision.models.mobilenet_v2, num_classes=10)


def test_macs_and_bytes_are_refused_with_their_own_numbers() -> None:
    found = ledger(network(), 32)
    exact = Budget(found.params, macs=found.macs, resolution=32, bytes=found.saved)
    assert exact.check(network()) == found
    with pytest.raises(
        OverBudget, match=r"^221,264 MACs at 32x32 is 1 over the budget of 221,263; the line is"
    ) as over:
        replace(exact, macs=221_263).check(network())
    assert "crossed in 5; largest: 0 221,184, 5 80; " in str(over.value)
    with pytest.raises(
        OverBudget, match=r"^4,056 bytes as saved is 1 over the budget of 4,055; .*allow .*bytes=4_056"
    ):
        replace(exact, bytes=4_055).check(network())
    with pytest.raises(
        OverBudget, match=r"^330 parameters is 30 over .* and 4,056 bytes as saved is 56 over .* of 4,000;"
    ):
        Budget(300, bytes=4000).check(network())


def test_a_wrapped_network_names_its_largest_parts_one_level_down() -> None:
    with pytest.raises(OverBudget, match=r"largest: 0.0 224, 0.5 90, 0.1 16;"):
        Budget(100).check(nn.Sequential(network()))


def test_the_line_is_crossed_where_the_limit_is_passed_not_where_it_is_met() -> None:
    with pytest.raises(OverBudget, match="crossed in 5;"):
        Budget(params=224 + 16).check(network())
    with pytest.raises(OverBudget, match="crossed in 1;"):
        Budget(params=224 + 15).check(network())


def test_a_refusal_can_be_pickled() -> None:
    with pytest.raises(OverBudget) as refusal:
        Budget(100).check(network())
    again = pickle.loads(pickle.dumps(refusal.value))
    assert str(again) == str(refusal.value)
    assert again.ledger == refusal.value.ledger


def test_a_build_is_the_call_itself_random_numbers_included() -> None:
    torch.manual_seed(3)
    expected = network(9, classes=4)
    after = torch.rand(1)
    torch.manual_seed(3)
    model = Budget("1k").build(network, 9, classes=4)
    assert torch.equal(torch.rand(1), after)
    for key, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    assert built(model) == Built(network, (9,), {"classes": 4}, Budget("1k"))
    assert built(expected) is None
    assert model.training


@pytest.mark.parametrize(
    "make",
    [
        network,
        lambda: network(16),
        functools.partial(network, 4, classes=2),
        functools.partial(nn.Conv2d, 3, 4, 1),
        torchvision.models.shufflenet_v2_x0_5,
    ],
)
def test_any_callable_builds(make: Callable[[], nn.Module]) -> None:
    model = Budget("10M").build(make)
    assert count(make) == sum(parameter.numel() for parameter in model.parameters())
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


def test_a_refused_model_is_never_built_for_real() -> None:
    devices: list[str] = []

    def make() -> nn.Module:
        devices.append(torch.empty(1).device.type)
        return network()

    with pytest.raises(OverBudget):
        Budget(10).build(make)
    assert devices == ["meta"]
    Budget("1k").build(make)
    assert devices == ["meta", "meta", "cpu"]


def test_counting_draws_no_random_number_of_any_kind() -> None:
    def make() -> nn.Module:
        return nn.Linear(
            random.randint(1, 50), int(np.random.randint(1, 50)) + int(torch.randint(9, (1,), device="cpu"))
        )

    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    count(make)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]
    Budget("1M").build(make)  # the same random choices twice, so the same network twice


def test_a_builder_that_makes_another_network_each_time_is_refused() -> None:
    widths = iter([3, 4])
    with pytest.raises(
        ValueError, match=r"made 12 parameters .* when it was counted and 16 .* when it was built"
    ):
        Budget("1k").build(lambda: nn.Linear(3, next(widths)))


def test_the_way_out_is_said_for_what_is_no_builder() -> None:
    with pytest.raises(ValueError, match=r"make=Sequential is not a function .* budget.check\(model\)"):
        Budget("1k").build(network())
    with pytest.raises(ValueError, match="make=str is not a function that builds a module"):
        Budget("1k").build("resnet")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"returned a Tensor where a builder returns an nn\.Module"):
        Budget("1k").build(lambda: torch.ones(2))  # type: ignore[arg-type, return-value]


def test_a_mistake_in_the_call_is_the_builders_own_error() -> None:
    with pytest.raises(TypeError, match="out_features"):
        Budget("1k").build(nn.Linear, 3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="in_channels must be divisible by groups"):
        count(nn.Conv2d, 3, 4, 3, groups=2)


def test_builders_that_read_values_are_counted_all_the_same() -> None:
    def rates() -> nn.Module:
        return nn.Sequential(
            *(nn.Dropout(rate) for rate in torch.linspace(0, 0.5, 3).tolist()), nn.Linear(100, 100)
        )

    def scaled() -> nn.Module:
        layer = nn.Linear(30, 30)
        layer.weight.data = torch.from_numpy(layer.weight.detach().numpy() * 2)
        return layer

    assert count(rates) == 10_100
    assert count(scaled) == 930
    assert count(lambda: parametrizations.orthogonal(nn.Linear(30, 30))) == 930
    assert [layer.p for layer in Budget("1M").build(rates)[:3]] == [0.0, 0.25, 0.5]


def test_a_builder_that_cannot_go_without_its_weights_is_told_so() -> None:
    def checked() -> nn.Module:
        layer = nn.Linear(5000, 5000)
        assert layer.weight.abs().max().item() > 0
        return layer

    with pytest.raises(
        ValueError, match=r"checked cannot be built without allocating .* budget.check\(model\)"
    ):
        Budget("1M").build(checked)


def test_parameters_put_on_the_cpu_by_name_are_counted_without_being_kept() -> None:
    def pinned() -> nn.Module:
        shared = nn.Parameter(torch.empty(3000, 3000, device="cpu"))
        model = nn.Module()
        model.first, model.second = shared, shared  # type: ignore[assignment]
        return model

    assert count(pinned) == 9_000_000


def test_counting_needs_no_allocation() -> None:
    assert count(nn.Linear, 10**6, 10**6) == 10**12 + 10**6
    assert count(nn.Conv2d, 3, 64, 3) == 1792


def test_models_with_loaded_weights_build(tmp_path: Any, recwarn: pytest.WarningsRecorder) -> None:
    torch.save(network().state_dict(), tmp_path / "weights.pt")

    def pretrained(assign: bool) -> nn.Module:
        model = network()
        model.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True), assign=assign)
        return model

    for assign in (False, True):
        model = Budget("1k").build(pretrained, assign)
        assert torch.equal(model[0].weight, torch.load(tmp_path / "weights.pt")["0.weight"])
    assert not [each for each in recwarn if "meta" in str(each.message)]


def test_a_model_that_uses_the_name_built_is_told_so() -> None:
    class Clash(nn.Module):
        built = True

    with pytest.raises(ValueError, match="uses the attribute `built`"):
        Budget("1k").build(Clash)
    assert built(Clash()) is None


def test_discarded_parts_of_many_tensors_do_not_stop_a_builder() -> None:
    def part() -> nn.Module:
        for _ in range(60):
            kept = nn.Sequential(*(nn.Linear(20, 20) for _ in range(40)))
        return kept[0]

    def shared() -> nn.Module:
        one = nn.Parameter(torch.zeros(1000))
        model = nn.Module()
        for index in range(5000):
            model.register_parameter(f"p{index}", one)
        return model

    assert Budget(420).check(Budget(420).build(part)).params == 420
    assert Budget(1000).check(Budget(1000).build(shared)).params == 1000


HUGE = """
import resource, sys
import torch
from torch import nn

counted = [0]

def seen(frame, event, arg):
    counted[0] += event == "call"

sys.setprofile(seen)

def few():
    return nn.Sequential(*(nn.Linear(50_000, 50_000) for _ in range(4)))

def many():
    return nn.Sequential(*(nn.Linear(1000, 1000) for _ in range(10_000)))

def swallowing():
    layers = []
    for _ in range(10_000):
        try:
            layers.append(nn.Linear(1000, 1000))
        except Exception:
            pass
    return nn.Sequential(*layers)

def with_values():
    torch.linspace(0, 1, 3).tolist()
    return few()

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for make in (few, with_values, many, swallowing):
    counted[0] = 0
    from budgetnet.budget import Budget, OverBudget
    try:
        Budget(params="2M", macs="1G", resolution=96).build(make)
    except OverBudget as error:
        took = counted[0]
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(took, peak, error, sep=";")
"""


@pytest.mark.slow
def test_ten_billion_parameters_are_refused_with_little_work_and_within_100_mb() -> None:
    done = subprocess.run([sys.executable, "-c", HUGE], capture_output=True, text=True, check=True)
    counted = (
        "10,000,200,000 parameters is 9,998,200,000 over the budget of 2,000,000; the line is crossed in 0;"
    )
    stopped = (
        "more than 2,051,048,000 parameters is over 1,025 times the budget of 2,000,000; building stopped"
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    for line, says in zip(lines, (counted, counted, stopped, stopped), strict=True):
        work, megabytes, message = line.split(";", 2)
        assert message.startswith(says)
        assert int(work) < 3_000_000
        assert float(megabytes) < 100


def test_the_ledger_of_a_stopped_build_holds_what_there_was() -> None:
    with pytest.raises(OverBudget) as refusal:
        Budget("1k").build(lambda: nn.Sequential(*(nn.Linear(9, 9) for _ in range(5000))))
    assert refusal.value.ledger.params > 8000
    assert [row.kind for row in refusal.value.ledger.rows] == ["Linear"]


# What fits at a resolution.


def pools(times: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *(nn.MaxPool2d(2) for _ in range(times)))


@pytest.mark.parametrize("times", [1, 3, 5])
def test_a_map_that_collapses_is_named_with_the_smallest_resolution_that_fits(times: int) -> None:
    check_fit(pools(times), 2**times)
    with pytest.raises(DoesNotFit) as misfit:
        check_fit(pools(times), 2**times - 1)
    assert misfit.value.module == str(times)
    assert misfit.value.given == (1, 4, 1, 1)
    assert misfit.value.resolution == (2**times - 1, 2**times - 1)
    assert misfit.value.smallest == 2**times
    size = f"{2**times - 1}x{2**times - 1}"
    start = (
        f"{times} (MaxPool2d) does not fit at {size}: it is given (1, 4, 1, 1) and its map collapses below"
    )
    assert str(misfit.value).startswith(start)
    assert str(misfit.value).endswith(f"; the smallest resolution that fits is {2**times}")


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_fit_and_its_smallest_resolution_agree_with_really_running_the_model(data: st.DataObject) -> None:
    layers: list[nn.Module] = []
    for _ in range(data.draw(st.integers(1, 4))):
        kernel, stride = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
        padding = data.draw(st.integers(0, kernel // 2))
        pool = data.draw(st.booleans())
        layers.append(
            nn.AvgPool2d(kernel, stride, padding) if pool else nn.Conv2d(3, 3, kernel, stride, padding)
        )
    model = nn.Sequential(*layers)

    def runs(size: int) -> bool:
        try:
            return model(torch.zeros(1, 3, size, size)).numel() > 0
        except RuntimeError:
            return False

    size = data.draw(st.integers(1, 40))
    if runs(size):
        check_fit(model, size)
        return
    with pytest.raises(DoesNotFit) as misfit:
        check_fit(model, size)
    smallest = misfit.value.smallest
    assert smallest is not None
    assert runs(smallest)
    assert not any(runs(smaller) for smaller in range(1, smallest))


def test_features_that_do_not_match_a_linear_are_named_with_both_numbers() -> None:
    model = nn.Sequential(pools(2), nn.Flatten(), nn.Linear(4 * 16 * 16, 10))
    for size in (56, 71):
        with pytest.raises(DoesNotFit, match=r"^2 \(Linear\) does not fit .* takes 1,024 features") as misfit:
            check_fit(model, size)
        assert misfit.value.smallest == 64
    for size in (64, 67):
        check_fit(model, size)


def test_channels_that_no_resolution_can_mend_are_said() -> None:
    with pytest.raises(
        DoesNotFit, match=r"^0 \(Conv2d\) .* takes 3 channels .* no resolution up to 512 fits"
    ):
        check_fit(pools(1), 32, channels=1)


def test_the_innermost_module_is_named_and_the_model_itself_when_it_is_its_own_fault() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Conv2d(3, 3, 3, stride=2)

        def forward(self, images: Tensor) -> Tensor:
            return self.down(images) + F.max_pool2d(images, 2)

    with pytest.raises(
        DoesNotFit, match=r"^the model itself \(Skip\) does not fit at 9x8.*given \(1, 3, 9, 8\)"
    ):
        check_fit(Skip(), (9, 8))
    with pytest.raises(DoesNotFit, match=r"^body.0 \(Skip\)") as misfit:
        check_fit(nn.Sequential(torch.nn.modules.container.OrderedDict(body=nn.Sequential(Skip()))), 8)
    assert misfit.value.module == "body.0"


def test_an_error_that_a_model_catches_is_not_one() -> None:
    class Tolerant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wrong = nn.Linear(7, 7)
            self.right = nn.Conv2d(3, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            try:
                return self.wrong(images)
            except RuntimeError:
                return self.right(images)

    check_fit(Tolerant(), 8)
    assert ledger(Tolerant(), 8).macs == 6 * 64


def test_a_forward_that_reads_values_is_tried_and_searched_on_the_cpu() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 5)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.conv(images)
            return maps if maps.mean().item() > 9 else F.max_pool2d(maps, 3)

    check_fit(Gate(), 7)
    with pytest.raises(DoesNotFit, match="the smallest resolution that fits is 7"):
        check_fit(Gate(), 6)
    with pytest.raises(
        ValueError, match=r"reads values in its forward .* cannot be tried before it is built"
    ):
        Budget(macs="1M", resolution=8).build(Gate)


def test_fitting_leaves_the_model_and_the_random_state_alone() -> None:
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    check_fit(model, 8)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("nonsense", [0, -1, 1.5, "96", True, None])
def test_a_resolution_is_a_whole_number_of_pixels(nonsense: Any) -> None:
    with pytest.raises(ValueError, match="is not a whole number of pixels"):
        check_fit(network(), nonsense)


def test_a_budget_in_macs_refuses_a_network_that_collapses_at_its_resolution() -> None:
    with pytest.raises(DoesNotFit, match="the smallest resolution that fits is 32"):
        Budget(macs="1G", resolution=16).build(pools, 5)


def adopted(width: int = 8, origin: str = "somewhere") -> nn.Module:
    """A network that says it began from external weights."""
    model = network(width)
    model.external = origin
    return model


def test_scratch_is_part_of_a_budget_and_off_by_default() -> None:
    assert Budget("2M").scratch is False
    assert Budget("2M").describe() == {"params": 2_000_000}  # as before there was such an option
    strict = Budget("2M", scratch=True)
    assert strict != Budget("2M")
    assert strict.describe() == {"params": 2_000_000, "scratch": True}
    assert repr(strict) == "Budget(params=2_000_000, scratch=True)"
    assert replace(strict, scratch=False) == Budget("2M")
    with pytest.raises(ValueError, match="needs at least one limit"):
        Budget(scratch=True)
    with pytest.raises(ValueError, match="a budget's scratch should be True or False, not 'no'"):
        Budget("2M", scratch="no")  # type: ignore[arg-type]


def test_a_budget_from_scratch_refuses_what_began_elsewhere() -> None:
    strict, lenient = Budget("1k", scratch=True), Budget("1k")
    with pytest.raises(NotFromScratch) as refusal:
        strict.check(adopted())
    assert str(refusal.value) == (
        "Sequential began from external weights, somewhere, and the budget says scratch=True: build it "
        "without them, or drop scratch=True"
    )
    assert isinstance(refusal.value, ValueError)
    with pytest.raises(NotFromScratch):
        strict.build(adopted, 4)
    with pytest.raises(NotFromScratch):
        strict.check(nn.Sequential(nn.Identity(), adopted()))  # a part of it is enough
    assert strict.check(network()) == lenient.check(adopted())
    assert external(strict.build(network)) == ""
    assert external(lenient.build(adopted, origin="there")) == "there"


def test_what_is_not_from_scratch_is_never_built_for_real() -> None:
    devices: list[str] = []

    def make() -> nn.Module:
        devices.append(torch.empty(1).device.type)
        return adopted()

    with pytest.raises(NotFromScratch):
        Budget("1k", scratch=True).build(make)
    assert devices == ["meta"]


def test_the_origins_of_all_parts_are_named_once_each() -> None:
    model = nn.Sequential(adopted(origin="a"), network(), adopted(origin="b"), adopted(origin="a"))
    assert external(model) == "a and b"

    class Other(nn.Module):
        """One whose attribute of that name is something else."""

        def __init__(self) -> None:
            super().__init__()
            self.external = nn.Linear(2, 2)

    assert external(Other()) == ""


def test_trained_weights_of_torchvision_are_noticed_by_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = torchvision.models.shufflenet_v2_x0_5
    # Where torch looks before it fetches anything.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    weights = torchvision.models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1
    strict = Budget("2M", scratch=True)
    for asked in (functools.partial(make, weights="DEFAULT"), functools.partial(make, weights=weights)):
        with pytest.raises(NotFromScratch, match=r"torchvision shufflenet_v2_x0_5\(weights="):
            strict.build(asked)  # before it is fetched
    with pytest.raises(NotFromScratch, match=r"'IMAGENET1K_V1'"):
        strict.build(make, weights="IMAGENET1K_V1")
    strict.build(make, weights=None)
    torch.save(make().state_dict(), folder / weights.url.rsplit("/", 1)[-1])
    model = Budget("2M").build(make, weights=weights)
    assert external(model) == (
        "torchvision shufflenet_v2_x0_5(weights=ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1)"
    )
    with pytest.raises(NotFromScratch):
        strict.check(model)
