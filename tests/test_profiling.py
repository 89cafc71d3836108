"""Profiling: what is told is where the time went, in the training's own code, and nothing is left behind."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from budgetnet import EMA, Data, Distill, EarlyStop, Flip, Phase, Ramp, Recipe, Trainer, Warmup, profile
from budgetnet.cli import main
from budgetnet.engine.speed import PARTS
from budgetnet.profiling import Operator, Part, PhaseProfile, Profile
from budgetnet.profiling.arithmetic import counted_steps, matmul_peaks
from budgetnet.profiling.measure import traces
from budgetnet.profiling.values import TITLES, advise
from tests.work import Leap, leaping

PAUSE = 0.01
STEPS = 3

# The first start of torch's profiler takes seconds: what needs it is not tried every day.


LEAP: list[Leap] = []


def pause(times: int) -> None:
    """Really, for torch's profiler, and by a leap of the clock, which no machine's load comes near."""
    time.sleep(times * PAUSE)
    for leap in LEAP:
        leap.by(times * 1000.0)


class Pausing(nn.Module):
    """A module that takes its time."""

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type != "meta":
            pause(1)
        return images


def pausing(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    pause(2)
    return images, labels


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 4, 3), Pausing(), nn.BatchNorm2d(4))
        return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


RECIPE = Recipe(
    [
        Phase(4, Ramp(8, 12), Warmup(0.1, epochs=2), augment=[pausing], name="learn", stop=EarlyStop(3)),
        Phase(1, 16, 0.01, batch_size=500, start="best", trains=["3"]),
    ],
    batch_size=60,
    average=EMA(0.9),
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Path]:
    from tests.conftest import coloured

    trace = tmp_path_factory.mktemp("traces") / "trace.json"
    trainer = Trainer("cpu", show=False, out=trace.parent / "runs")
    with leaping() as leap:
        LEAP[:] = [leap]
        found = profile(network(), coloured(), RECIPE, steps=STEPS, trainer=trainer, trace=trace)
        LEAP.clear()
    return found, trace


@pytest.mark.slow
def test_each_phase_is_measured_at_its_resolution_and_batch_size(told: tuple[Profile, Path]) -> None:
    first, second = told[0].phases
    assert (first.name, first.resolution, first.batch_size, first.epoch_steps) == ("learn", 12, 60, 4)
    # More than the images there are: an epoch is one step of all of them.
    assert (second.name, second.resolution, second.batch_size, second.epoch_steps) == ("phase 2", 16, 240, 1)
    assert first.evaluated == second.evaluated == 60


@pytest.mark.slow
def test_time_is_told_where_it_was_spent(told: tuple[Profile, Path]) -> None:
    first, second = told[0].phases
    parts = {part.name: part for part in first.parts}
    assert list(parts) == [*(part for part in PARTS if part != "teacher"), "rest"]
    assert parts["views"].seconds >= 2 * PAUSE
    assert parts["forward"].seconds >= PAUSE
    assert parts["backward"].seconds < parts["forward"].seconds
    assert sum(part.share for part in first.parts) == pytest.approx(1)
    assert sum(part.seconds for part in first.parts) == pytest.approx(first.seconds)
    assert first.images_per_second == pytest.approx(60 / first.seconds)
    assert first.data_share > 0.5
    assert second.data_share < 0.5
    assert first.evaluation >= PAUSE


def test_a_teachers_time_is_no_time_of_data() -> None:
    from tests.conftest import coloured

    class Slow(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            leap.by(1000.0)
            return images.new_zeros(len(images), 3)

    phase = Phase(2, 8, 0.1, augment=[Flip(), Distill(Slow())])
    with leaping() as leap:
        trainer = Trainer("cpu", show=False, out=None)
        run = trainer.fit(network(), coloured(), Recipe([phase], batch_size=60))
    for epoch in run.history:
        assert epoch.step_seconds >= 1000 * epoch.steps
        assert epoch.data_seconds < 1000
    assert list(TITLES) == [*PARTS, "rest"]


@pytest.mark.slow
def test_the_costliest_module_and_operators_are_named(told: tuple[Profile, Path]) -> None:
    first, second = told[0].phases
    assert first.modules[0].name == "0.1 (Pausing)"
    assert first.modules[0].seconds >= PAUSE
    # Neither the evaluation nor another step is counted among them.
    assert {module.calls for module in first.modules} == {1.0}
    names = {operator.name for operator in second.operators}
    assert any("conv" in name for name in names)
    assert not any(name.startswith(("part:", "module:")) for name in names)
    seconds = [operator.cost for operator in second.operators]
    assert seconds == sorted(seconds, reverse=True)


@pytest.mark.slow
def test_the_trace_names_parts_and_modules(told: tuple[Profile, Path]) -> None:
    _, trace = told
    assert not trace.exists()
    for number in (1, 2):
        events = json.loads(trace.with_name(f"trace-{number}.json").read_text())["traceEvents"]
        names = {event.get("name") for event in events}
        assert {"part: views", "part: forward", "part: backward", "module: 0.1 (Pausing)"} <= names
        assert "part: evaluation" in names
    assert not (trace.parent / "runs").exists()


@pytest.mark.slow
def test_text_and_json_say_the_same(told: tuple[Profile, Path]) -> None:
    found, _ = told
    text, plain = str(found), json.loads(json.dumps(found.json(), allow_nan=False))
    assert "learn: 12 px, batch 60" in text
    assert "data: views" in text
    assert "0.1 (Pausing)" in text
    assert f"{100 * found.phases[0].parts[1].share:.1f} %" in text
    assert plain["phases"][0]["resolution"] == 12
    assert plain["phases"][0]["parts"][1] == {
        "name": "views",
        "seconds": found.phases[0].parts[1].seconds,
        "share": found.phases[0].parts[1].share,
    }
    assert plain["seconds"] == pytest.approx(sum(p.epochs * p.epoch_seconds for p in found.phases))
    # A step that sleeps in its views is clearly off.
    assert "advice: data take" in text


@pytest.mark.slow
def test_the_model_and_torch_are_left_as_they_were(data: Data) -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    found = profile(model, data, Recipe([Phase(2, 12, 0.1)], measure=()), steps=1, threads=(1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert model.training
    assert torch.get_num_threads() == 1
    assert set(found.phases[0].threads) == {1, 2}
    assert found.phases[0].evaluated == 0
    json.dumps(found.json(), allow_nan=False)
    assert "by the number of threads" in str(found)


def test_mistakes_are_one_sentence(data: Data, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="steps should be a whole number"):
        profile(network(), data, RECIPE, steps=0)
    with pytest.raises(ValueError, match="threads should be a whole number"):
        profile(network(), data, RECIPE, threads=(0,))
    with pytest.raises(ValueError, match="would lie in"):
        profile(network(), data, RECIPE, trace=tmp_path / "none" / "t.json")
    with pytest.raises(ValueError, match="is a folder"):
        traces(tmp_path, 1)
    assert traces(tmp_path / "t.json", 1) == [tmp_path / "t.json"]
    with pytest.raises(ValueError, match="one logit for each"):
        profile(nn.Sequential(network(), nn.Linear(3, 4)), data, Recipe([Phase(1, 12, 0.1)]))


def phase(**changes: object) -> PhaseProfile:
    shares = {"gather": 0.1, "views": 0.1, "forward": 0.3, "backward": 0.5}
    shares |= changes.pop("shares", {})  # type: ignore[arg-type]
    parts = tuple(Part(name, share, share) for name, share in shares.items())
    cost = (Operator("aten::add", 2.0, 0.1),)
    return replace(PhaseProfile("learn", 8, 60, 3, 1.0, parts, cost, cost, epochs=3), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"shares": {"views": 0.4}, "resolution": 7}, "store them at 8 px"),
        ({"shares": {"views": 0.4}}, "costliest steps of augment"),
        ({"shares": {"gather": 0.4}}, "fetch the images"),
        ({"shares": {"rest": 0.3}}, "larger batch_size"),
        ({"threads": {1: 1.0, 2: 1.5}}, "OMP_NUM_THREADS=1"),
        ({"threads": {1: 1.0, 2: 0.7}}, None),
        ({"evaluation": 2.0, "evaluated": 10, "images": 10}, "is evaluation"),
    ],
)
def test_advice_is_given_only_where_something_is_off(
    changes: dict[str, object], words: str | None, data: Data
) -> None:
    found = advise((phase(**changes),), data, torch.device("cpu"))
    assert len(found) == (0 if words is None else 1)
    if words is not None:
        assert words in found[0]


def test_a_steps_arithmetic_is_counted_with_its_backward_pass_and_its_optimizer() -> None:
    network = nn.Sequential(nn.Linear(5, 7, bias=False), nn.Linear(7, 3, bias=False))
    steps = counted_steps(3, eager=True)
    for _ in range(3):
        next(steps)
        network(torch.ones(2, 5)).sum().backward()
        torch.ones(4, 4) @ torch.ones(4, 4)
    with pytest.raises(StopIteration) as over:
        next(steps)
    # The images need no gradient: the first layer's backward pass is one product, the second's two.
    assert over.value.value == 2 * 5 * 7 * 2 + 2 * 7 * 3 * 3 + 4**3
    blind = counted_steps(1, eager=False)
    next(blind)
    assert next(blind, None) is None


def test_a_phase_is_told_beside_the_machines_own_best() -> None:
    peaks = matmul_peaks(torch.device("cpu"))
    assert list(peaks) == ["float32", "bfloat16"]
    assert all(rate > 0 for rate in peaks.values())
    learn, compiled = phase(macs=2_000_000_000), phase(name="fix")
    assert learn.macs_per_second == 2_000_000_000 / 0.8
    taught = replace(learn, parts=(*learn.parts, Part("teacher", 0.2, 0.2)))
    assert taught.macs_per_second == 2_000_000_000
    found = Profile((learn, compiled), "cpu", 1, "float32", 0, 1.0, (), {"float32": 5e9, "bfloat16": 1e10})
    assert "reaches 5 GMAC/s in float32, 10 GMAC/s in bfloat16" in str(found)
    assert "learn: 2 GMAC a step, computed at 2.5 GMAC/s, 0.50 of that in float32" in str(found)
    assert "fix: 0 GMAC" not in str(found)
    plain = json.loads(json.dumps(found.json(), allow_nan=False))
    assert [each["of_matmul"] for each in plain["phases"]] == [0.5, None]


@pytest.mark.slow
def test_the_command_prints_a_table_and_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        main, ["profile", "quickstart", "--steps", "1", "--set", "recipe.batch_size=16"]
    )
    assert result.exit_code == 0, result.output
    assert "learn: 12 px, batch 16" in result.output
    assert "backward" in result.output
    assert "of that in float32" in result.output
    assert list(tmp_path.iterdir()) == []


def test_the_commands_mistakes_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = CliRunner().invoke(main, ["profile", "fixres_stl10", "--data", str(tmp_path)])
    assert missing.exit_code == 1
    assert missing.output.count("\n") == 1
    wrong = CliRunner().invoke(main, ["profile", "quickstart", "--trace", "no/where.json"])
    assert (wrong.exit_code, wrong.output.count("\n")) == (2, 1)


@pytest.mark.slow
def test_the_command_writes_json_and_a_trace_and_nothing_else(tmp_path: Path) -> None:
    code = "from budgetnet.cli import main; main(['profile', 'quickstart', '--steps', '1', '--json'])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0
    assert found.stderr == ""
    assert json.loads(found.stdout)["phases"][0]["name"] == "learn"
