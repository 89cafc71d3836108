"""Budgets of what ships: RAM against a real pass, eight bits as they are stored, latency by its own clock."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, fx, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from budgetnet import Budget, OverBudget, ledger, load, models, save
from budgetnet.budget import Peak
from budgetnet.cli import main
from budgetnet.layers import Standardise


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes alive at once in a real pass, of all that was made in it, and of its input."""

    def __init__(self, images: Tensor, weights: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most: int = 0
        self.own = {each.untyped_storage()._cdata for each in weights.state_dict().values()}
        self.storages: dict[int, tuple[Any, int]] = {}
        self.note(images)

    def note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.own:
            reference: Any = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
            self.storages.setdefault(storage._cdata, (reference, storage.nbytes()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for each in output if isinstance(output, (tuple, list)) else [output]:
            if isinstance(each, Tensor):
                self.note(each)
        self.storages = {key: kept for key, kept in self.storages.items() if not kept[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.storages.values()))
        return output


class Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Standardise looks at its images, which a trace has not."""
        return isinstance(m, Standardise) or super().is_leaf_module(m, module_qualified_name)


def measured(model: nn.Module, resolution: int) -> int:
    """What a real pass on the CPU has alive at once, where each value is let go after its last use."""
    graph = fx.GraphModule(model, Tracer().trace(model.eval()))
    images = torch.rand(1, 3, resolution, resolution)
    with torch.no_grad(), Alive(images, model) as alive:
        given = {next(iter(graph.graph.nodes)): images}
        del images
        fx.Interpreter(graph).run(initial_env=given)
    most: int = alive.most
    return most


class Chain(nn.Module):
    """Views, in-place steps and what follows from weights alone, with a peak that is known by heart."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 4, 1, bias=False)
        self.scale = nn.Parameter(torch.ones(1000, 1000))

    def forward(self, images: Tensor) -> Tensor:
        wide: Tensor = self.first(images)  # 3 and 8 numbers a pixel
        wide = wide.relu_().flatten(2).view(wide.shape)[:, :8]  # still 8
        narrow: Tensor = self.second(wide)  # 8 and 4, the peak
        narrow *= self.scale.square().sum()
        return narrow.mean(dim=(2, 3))


def test_in_place_steps_and_views_take_nothing_and_weights_are_no_activations() -> None:
    peak = ledger(Chain(), 16).peak
    assert peak == Peak(12 * 256 * 4, "second", (("first", 8 * 1024), ("second", 4 * 1024)))
    assert ledger(nn.Identity(), 16).ram == 3 * 1024
    assert ledger(Chain()).ram is None


def test_a_skip_is_alive_until_it_is_added() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))

        def forward(self, images: Tensor) -> Tensor:
            added: Tensor = images + self.inner(images)
            return added

    class Concat(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.cat([images, images.sin(), images.cos()], dim=1).mean(dim=(1, 2, 3))

    assert ledger(Skip(), 16, channels=4).ram == 3 * 4096  # image, before and after an inner step
    assert ledger(Concat(), 16, channels=4).ram == (3 + 3) * 4096


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: models.resnet(10),
    "torchvision densenet": lambda: torchvision.models.DenseNet(8, (3, 3), 16),
    "torchvision mobilenet_v3": torchvision.models.mobilenet_v3_small,
    "mobilenet": lambda: models.mobilenet(10),
    "efficientnet": lambda: models.efficientnet(10),
    "torchvision googlenet": lambda: torchvision.models.googlenet(init_weights=False),
    "torchvision resnet18": torchvision.models.resnet18,
    "torchvision shufflenet": torchvision.models.shufflenet_v2_x0_5,
    "torchvision squeezenet": torchvision.models.squeezenet1_1,
    "torchvision regnet": torchvision.models.regnet_y_400mf,
}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in list(NETWORKS)[3:]]


@pytest.mark.parametrize("name", [*list(NETWORKS)[:3], *SLOW])
def test_the_peak_is_that_of_a_real_pass_that_lets_go_of_what_nobody_reads(name: str) -> None:
    model = NETWORKS[name]()
    assert ledger(model, 64).ram == measured(model, 64)


def test_a_budget_of_ram_refuses_with_the_module_of_the_peak_and_the_way_out() -> None:
    assert Budget(ram="12KiB", resolution=16).check(Chain()).ram == 12 * 1024
    with pytest.raises(OverBudget) as refusal:
        Budget(ram=12 * 1024 - 1, resolution=16).build(Chain)
    assert str(refusal.value) == (
        "12,288 bytes of RAM at 16x16 (in second) is 1 over the budget of 12,287; held then: first 8,192, "
        "second 4,096; shrink the map before it, make it narrower there, lower the resolution, let "
        "budget.spend(make, knobs) find the largest that fits, or allow Budget(ram=12_288, resolution=16)"
    )
    with pytest.raises(ValueError, match=r"ram='256KB' needs .* write Budget\(ram='256KB', resolution=96\)"):
        Budget(ram="256KB")


def test_a_budget_of_ram_is_spent() -> None:
    budget = Budget("1M", ram="200KB", resolution=32)
    spent = budget.spend(
        models.convnet, {"widths": [(width, 2 * width) for width in (8, 16, 24, 32, 64)]}, classes=10
    )
    assert spent.knobs == {"widths": (24, 48)}
    assert spent.slack["ram"] == 200_000 - 2 * 24 * 32 * 32 * 4
    assert "of 200,000 bytes of RAM at 32x32 (in stages.0.0.norm), 3," in str(spent)
    step = spent.next["widths"]
    assert step is not None
    assert step.over["ram"] > 0 > step.over["params"]


def test_a_budget_of_ram_travels_with_its_model_and_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Budget(ram="100KB", resolution=16).build(models.convnet, classes=10, widths=(8, 16))
    save(model, tmp_path / "a.safetensors", resolution=32)
    loaded = load(tmp_path / "a.safetensors")
    assert loaded.built.budget == Budget(ram=100_000, resolution=16)  # type: ignore[union-attr]
    with pytest.raises(SystemExit):
        main(["count", str(tmp_path / "a.safetensors")])
    shown = capsys.readouterr().out
    assert "65,536 bytes of activations are live at once, at most, in stages.0.0.norm." in shown
    assert "budget: 16,384 of 100,000 bytes of RAM at 16x16 (in stages.0.0.norm), 83,616 left" in shown
    with pytest.raises(SystemExit):
        main(["count", str(tmp_path / "a.safetensors"), "--json"])
    counted = json.loads(capsys.readouterr().out)
    assert counted["budget"] == {"ram": 100_000, "resolution": 16}
    assert counted["peak"]["bytes"] == 65_536


def test_a_budget_of_eight_bits_counts_weights_and_activations_so() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    counts, plain = ledger(model, 16, stored="int8"), ledger(model, 16)
    assert counts.bytes == 216 + 32 + 5 * 12 + 12 * 12 + 4 * 32 + 8 + 2 * 400 + 2 * 250
    assert counts.params == plain.params
    assert plain.ram == 4 * (counts.ram or 0) == 4 * 16 * 256
    assert "bytes as int8." in str(counts)
    budget = Budget(bytes=counts.saved, ram="4KiB", resolution=16, stored="int8")
    assert budget.check(model) == counts
    assert budget == eval(repr(budget)) == Budget.read(json.loads(json.dumps(budget.describe())))
    with pytest.raises(OverBudget, match=r"bytes as int8 is 1 over .* Budget\(bytes=.*stored='int8'\)"):
        Budget(bytes=counts.saved - 1, stored="int8").check(model)


def test_eight_bits_are_refused_where_nothing_is_stored() -> None:
    with pytest.raises(ValueError, match="stored='int8' says how bytes and ram are counted: write"):
        Budget("2M", stored="int8")
    with pytest.raises(ValueError, match="a budget's stored should be one of int8, not 'int4'"):
        Budget(bytes="2MB", stored="int4")  # type: ignore[arg-type]


def test_a_budget_of_eight_bits_is_spent_and_travels(tmp_path: Path) -> None:
    budget = Budget(bytes="30KB", stored="int8")
    spent = budget.spend(models.convnet, {"widths": [(8, 16), (16, 32), (32, 64)]}, classes=10)
    assert spent.knobs == {"widths": (16, 32)}
    model = spent.build()
    save(model, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_size > 60_000
    assert load(tmp_path / "a.safetensors").built.budget == budget  # type: ignore[union-attr]
    with pytest.raises(OverBudget, match=r"bytes as int8, .* description of the model and its 5,000 classes"):
        save(model, tmp_path / "b.safetensors", classes=[f"class {k}" for k in range(5_000)])


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (
            "bytes=300KB, stored=int8,ram=64KB , resolution=32",
            Budget(bytes=300_000, stored="int8", ram=64_000, resolution=32),
        ),
        ("params=2,000,000, scratch=true", Budget("2M", scratch=True)),
        ("latency=1.5 ms, resolution=32", Budget(latency=0.0015, resolution=32)),
    ],
)
def test_a_whole_budget_can_be_one_text(written: str, meant: Budget) -> None:
    assert Budget(written) == meant


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "bytes=300KB, colour=3",
            "'colour=3' is not a part of a budget: write amounts as params, macs, bytes",
        ),
        ("bytes=300KB,", "'' is not a part of a budget"),
        ("bytes=1KB, bytes=2KB", "a budget's bytes is given twice"),
        ("ram=64KB, resolution=wide", "resolution='wide' is not a whole number of pixels"),
        ("ram=64KB", "needs the resolution"),
        ("stored=int8", "at least one limit"),
    ],
)
def test_a_text_that_is_no_budget_is_refused(written: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(written)
    with pytest.raises(ValueError, match="a budget's bytes is given twice"):
        Budget("bytes=300KB", bytes=300)


def test_a_command_checks_any_budget_and_takes_the_resolution_from_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.convnet(classes=10, widths=(8, 16))
    save(model, tmp_path / "a.safetensors", resolution=16)
    command = ["count", str(tmp_path / "a.safetensors"), "--budget"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "bytes=30KB, stored=int8, ram=8KB"])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "bytes as int8, " in shown
    assert "6,656 of 8,000 bytes of RAM at 16x16" in shown
    with pytest.raises(SystemExit) as ended:
        main([*command, "ram=1KB, resolution=32"])
    assert ended.value.code == 2
    assert "65,536 bytes of RAM at 32x32" in capsys.readouterr().err


NOW = [0.0]


class Timed(nn.Module):
    """A network that takes an eighth of a millisecond for each of its channels, by a clock of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        NOW[0] += 0.000_125 * len(self.conv.weight)
        pooled: Tensor = self.conv(images).mean(dim=(2, 3))
        return pooled


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.perf_counter", lambda: NOW[0])


def test_a_latency_is_measured_and_refused_with_the_way_out(clock: None) -> None:
    assert Budget(latency="5ms", resolution=8).check(Timed(40)).latency == pytest.approx(0.005)
    with pytest.raises(OverBudget) as refusal:
        Budget(latency=0.0045, resolution=8).build(Timed, 40)
    assert str(refusal.value) == (
        "5 ms for an image at 8x8, on one thread of this machine's CPU is 0.5 ms over the budget of 4.5 ms; "
        "most MACs: conv 7,680; make it narrower or shallower, lower the resolution, let "
        "budget.spend(make, knobs) find the largest that fits, or allow Budget(latency='5ms', resolution=8)"
    )
    with pytest.raises(OverBudget, match=r"^120 parameters is 20 over"):
        Budget(100, latency="1us", resolution=8).check(Timed(40))
    with torch.device("meta"), pytest.raises(ValueError, match="Timed lies on the meta device"):
        Budget(latency="5ms", resolution=8).check(Timed(40))


def test_a_latency_is_spent_with_few_measurements(clock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    def make(width: int) -> nn.Module:
        model = Timed(width)
        if not model.conv.weight.is_meta:
            built.append(width)
        return model

    state = torch.get_rng_state()
    for widths in (range(8, 168, 8), range(8, 1600, 8)):
        built.clear()
        spent = Budget("1M", latency="10ms", resolution=8).spend(make, {"width": widths})
        assert spent.knobs == {"width": 80}
        assert spent.slack["latency"] == 0
        assert "  10 ms of 10 ms for an image at 8x8, on one thread of this machine's CPU, 0 ms left" in str(
            spent
        )
        assert "width=88 would cost 264 parameters, 999,736 left and 11 ms for" in str(spent)
        assert len(built) <= 12
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr("time.perf_counter", lambda: NOW[0] * 10)
    assert sum(parameter.numel() for parameter in spent.build().parameters()) == 240
    with pytest.raises(OverBudget, match=r"width=8, does not fit: 10 ms for .* is 9 ms over .* of 1 ms"):
        Budget(latency="1ms", resolution=8).spend(make, {"width": (8, 16)})


def test_a_latency_is_of_a_machine_and_is_not_measured_again_elsewhere(
    tmp_path: Path, clock: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Budget(latency="20ms", resolution=16).build(models.convnet, classes=10, widths=(8, 16))
    ticks = iter(range(10**9))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    save(model, tmp_path / "a.safetensors", resolution=16)
    loaded = load(tmp_path / "a.safetensors")
    budget = loaded.built.budget  # type: ignore[union-attr]
    assert budget == Budget(latency=0.02, resolution=16) == pickle.loads(pickle.dumps(budget))
    assert replace(budget, params=10**6).latency == 0.02
    with pytest.raises(OverBudget, match="1,000 ms for an image"):
        budget.check(loaded)
    with pytest.raises(SystemExit):
        main(["count", str(tmp_path / "a.safetensors")])
    shown = capsys.readouterr().out
    assert (
        "budget: 1,000 ms of 20 ms for an image at 16x16, on one thread of this machine's CPU, 980 ms too"
        in shown
    )


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("20ms", 0.02), ("1.5 ms", 0.0015), ("800us", 0.0008), (0.5, 0.5), ("1s", 1.0), (1, 1.0)],
)
def test_a_latency_is_a_time_as_it_is_written(written: Any, seconds: float) -> None:
    budget = Budget(latency=written, resolution=32)
    assert budget.latency == seconds
    assert eval(repr(budget)) == budget == Budget.read(json.loads(json.dumps(budget.describe())))


@pytest.mark.parametrize(
    "nonsense", ["20", "20m", "ms", 0, -1, "0ms", float("nan"), True, 20, "1h", [1], "0.1us"]
)
def test_no_latency_is_refused_in_one_sentence(nonsense: Any) -> None:
    with pytest.raises(ValueError, match='is not a budget, which is a time above 0: write "20ms"') as refusal:
        Budget(latency=nonsense, resolution=32)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match=r"latency='20ms' needs the resolution"):
        Budget(latency="20ms")
