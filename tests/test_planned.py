"""A time budget: what a training takes is foretold by its steps, and one scaled to a time is exact."""

import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

from budgetnet import EMA, EarlyStop, Phase, Ramp, Recipe, Test, Trainer, Warmup, layers, models
from budgetnet.cli import main
from budgetnet.engine import Forecast
from budgetnet.run import Run
from tests.conftest import coloured
from tests.work import leaping


class Slow(nn.Module):
    """A module that takes a thousand seconds a pixel, and for ten more: no load comes near that."""

    def forward(self, images: Tensor) -> Tensor:
        # Named in a string: what a clock shows is no part of what the model is.
        leap = getattr(getattr(time, "perf_counter"), "by", None)  # noqa: B009
        if images.device.type != "meta" and leap is not None:
            leap(1000.0 * (10 + images.shape[-1] ** 2))
        return images


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.1))
        return nn.Sequential(Slow(), body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


RECIPE = Recipe(
    [
        Phase(20, Ramp(8, 24), Warmup(0.1, epochs=2), name="learn", stop=EarlyStop(20), test=Test(16)),
        Phase(10, 12, trains=(), calibrates=["*"], name="calibrate"),
        Phase(10, 12, 0.01, batch_size=120, start="best", trains=["4"]),
    ],
    batch_size=60,
    average=EMA(0.9),
)


@pytest.fixture
def slow() -> Iterator[None]:
    with leaping():
        yield


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer("cpu", show=False, out=tmp_path / "runs")


def weights(run: Run) -> dict[str, Any]:
    assert run.model is not None
    return dict(run.model.state_dict())


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("scale", [1.0, 0.31])
def test_what_is_foretold_is_what_the_training_takes(trainer: Trainer, scale: float) -> None:
    found = trainer.forecast(network(), coloured(), RECIPE)
    recipe = RECIPE.scaled(scale)
    took = trainer.fit(network(), coloured(), recipe).result["seconds"]
    # The clock goes on beside its leaps, and checkpoints are foretold too.
    assert took == pytest.approx(found.seconds(recipe), rel=0.03)


@pytest.mark.usefixtures("slow")
def test_a_training_within_a_time_has_the_bits_of_its_scale_and_ends_in_time(trainer: Trainer) -> None:
    whole = trainer.forecast(network(), coloured(), RECIPE).seconds(RECIPE)
    run = trainer.fit(network(), coloured(), RECIPE, within=0.4 * whole)
    scale = run.record["scale"]
    assert 0.9 < run.result["seconds"] / (0.4 * whole) < 1
    assert run.record["within"]["seconds"] == 0.4 * whole
    assert any(f"--scale {scale:g} takes about" in note for note in run.record["notes"])
    assert any(f"learn {run.history[0].epochs} of 20 epochs" in note for note in run.record["notes"])
    other = trainer.fit(network(), coloured(), RECIPE.scaled(scale))
    assert same(weights(run), weights(other))


def test_it_is_the_same_run_over_several_sittings(trainer: Trainer) -> None:
    with leaping():
        within = 0.2 * trainer.forecast(network(), coloured(), RECIPE).seconds(RECIPE)
        run = trainer.fit(network(), coloured(), RECIPE, within=within, max_time=1e-6)
    assert run.status == "paused"
    folder, scale = run.folder, run.record["scale"]
    assert folder is not None
    with pytest.raises(ValueError, match="was begun to end within"):
        trainer.fit(network(), coloured(), RECIPE, within=2 * within, resume=folder)
    # The machine is faster now, and nothing of the plan changes.
    run = trainer.fit(network(), coloured(), RECIPE, within=within, resume=folder)
    assert run.status == "finished"
    assert run.record["scale"] == scale
    assert same(weights(run), weights(trainer.fit(network(), coloured(), RECIPE.scaled(scale))))


def test_measuring_leaves_everything_as_it_was(trainer: Trainer) -> None:
    model, data, drawn = network().eval(), coloured(), (lambda: (random.random(), np.random.rand()))
    calls: list[int] = []

    def counting(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images, labels

    phases = [replace(phase, augment=[counting] if phase.learns else ()) for phase in RECIPE.phases]
    recipe = replace(RECIPE, phases=phases)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prints = data.train.fingerprint()
    for act in (lambda: None, lambda: trainer.forecast(model, data, recipe, seconds=0.01)):
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        act()
        calls.append(hash((float(torch.rand(())), *drawn())))
    assert calls[0] == calls[1]
    assert same(dict(model.state_dict()), before)
    assert not model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert data.train.fingerprint() == prints
    assert trainer.out is not None
    assert not Path(trainer.out).exists()


class Spying(torch.optim.SGD):
    """Plain SGD that notes how large the gradients are."""

    seen: ClassVar[list[float]] = []

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            Spying.seen += [float(p.grad.norm()) for p in group["params"] if p.grad is not None]
        return super().step(closure)


def test_measured_steps_are_not_slowed_by_blocks_that_begin_as_their_shortcut(trainer: Trainer) -> None:
    # Below 1e-19 the squares of gradients are subnormal numbers, and a step took five times as long.
    model = models.resnet(3, widths=(4, 8), blocks=(1, 1), block=layers.basic, stem=4, stem_pool=False)
    recipe = Recipe(Phase(4, 12, 0.1), optimizer=lambda parameters: Spying(parameters, lr=0.0), batch_size=60)
    Spying.seen.clear()
    trainer.forecast(model, coloured(), recipe, seconds=0.01)
    assert 0.0 in Spying.seen
    assert max(Spying.seen) > 1e-3
    assert min(norm for norm in Spying.seen if norm) > 1e-15


@pytest.mark.usefixtures("slow")
def test_what_is_short_stays_as_it_is_and_what_cannot_be_short_enough_is_refused(trainer: Trainer) -> None:
    found = trainer.forecast(network(), coloured(), RECIPE)
    run = trainer.fit(network(), coloured(), RECIPE, within=10 * found.seconds(RECIPE))
    assert run.record["scale"] == 1
    assert len(run.history) == 40
    assert any("it stays as it is" in note for note in run.record["notes"])
    with pytest.raises(ValueError, match=r"cannot be scaled below .* with one step a phase"):
        trainer.fit(network(), coloured(), RECIPE, within=0.5 * found.seconds(RECIPE.scaled(1e-9)))
    with pytest.raises(ValueError, match=r"one step a phase; 0\.001 ms is left of it: give it more time"):
        found.scale(RECIPE.scaled, 1e-6)
    with pytest.raises(ValueError, match="one step a phase; measuring its steps took all of it: give it"):
        found.scale(RECIPE.scaled, -0.5)
    with pytest.raises(ValueError, match="within should be seconds or a time"):
        trainer.fit(network(), coloured(), RECIPE, within="soon")


@pytest.mark.usefixtures("slow")
def test_of_a_long_training_it_is_said_before_it_begins(trainer: Trainer) -> None:
    recipe = Recipe(Phase(100_000, 12, 0.01), batch_size=60)
    run = trainer.fit(network(), coloured(), recipe, max_time=1e-6)
    notes = [note for note in run.record["notes"] if "the training takes about" in note]
    assert len(notes) == 1
    short = trainer.fit(network(), coloured(), RECIPE, max_time=1e-6)
    assert not [note for note in short.record["notes"] if "the training takes about" in note]


def test_resolutions_between_measured_ones_go_by_their_pixels(trainer: Trainer) -> None:
    recipe = Recipe(Phase(4, Ramp(4, 40, multiple=2), 0.01), batch_size=60)
    with leaping():
        found: Forecast = trainer.forecast(network(), coloured(), recipe, seconds=1.0)
    assert sorted(found.phases[0].steps)[:1] == [4]
    assert len(found.phases[0].steps) == 5
    for side in range(4, 41, 2):
        assert found.phases[0].step(side) == pytest.approx(1000 * (10 + side**2), rel=0.02)


# --- the command


FILE = '''"""Three colours."""
from budgetnet import Phase, Recipe
from tests.conftest import coloured
from tests.test_planned import network


def model():
    return network()


def data():
    return coloured(60, val=30)


recipe = Recipe([Phase(40, 8, 0.01, name="learn")], batch_size=30)
'''


def asked(here: Path, *words: object) -> Result:
    (here / "mine.py").write_text(FILE)
    line = ["run", str(here / "mine.py"), "--device", "cpu", "--out", str(here / "out"), *map(str, words)]
    return CliRunner().invoke(main, line)


@pytest.mark.usefixtures("slow")
def test_the_command_measures_says_and_goes_on_with_the_scale_that_it_chose(tmp_path: Path) -> None:
    # 74,000 s a step, two a full epoch, and 74,000 for its test: some 2,470 hours in all.
    dry = asked(tmp_path, "--dry-run")
    assert re.search(r"the training takes about 24\d\d:\d\d:\d\d on this machine", dry.output), dry.output
    assert "ms at" not in dry.output
    dry = asked(tmp_path, "--dry-run", "--within", "1000h")
    chosen = r"--scale 0\.[345]\d+ takes about [\d:]+: learn \d+ of 40 epochs"
    assert re.search(chosen, dry.output), dry.output
    assert not (tmp_path / "out").exists()
    paused = asked(tmp_path, "--within", "1000h", "--max-time", "0.000001")
    assert paused.exit_code == 75, paused.output
    run = Run.read(tmp_path / "out" / "mine-1")
    assert 0.3 < run.record["scale"] < 0.6
    refused = asked(tmp_path, "--within", "2000h", "--resume")
    assert refused.exit_code == 2
    assert "was begun to end within 1000:00:00" in refused.output
    assert asked(tmp_path, "--within", "1000h", "--resume").exit_code == 0
    run = Run.read(tmp_path / "out" / "mine-1")
    assert run.status == "finished"
    assert len(run.record["sessions"]) == 2
    assert len(run.history) < 25
    assert asked(tmp_path, "--within", "1000h", "--scale", "0.1").exit_code == 2
    assert asked(tmp_path, "--within", "1000h", "--seeds", "2", "--together", "2").exit_code == 2


@pytest.mark.usefixtures("slow")
def test_settings_come_after_the_scale(tmp_path: Path) -> None:
    assert asked(tmp_path, "--within", "1000h", "--set", "recipe.phases.0.epochs=3", "-q").exit_code == 0
    run = Run.read(tmp_path / "out" / "mine-1")
    assert run.record["scale"] == 1
    assert len(run.history) == 3


@pytest.mark.usefixtures("slow")
def test_seeds_share_the_time_and_one_scale(tmp_path: Path) -> None:
    found = asked(tmp_path, "--within", "1000h", "--seeds", "2")
    assert found.exit_code == 0, found.output
    runs = [Run.read(tmp_path / "out" / f"mine-{number}") for number in (1, 2)]
    assert runs[0].record["scale"] == runs[1].record["scale"] < 0.25
    assert sum(run.result["seconds"] for run in runs) < 3_600_000
    again = asked(tmp_path, "--within", "1000h", "--seeds", "2", "--resume")
    assert again.exit_code == 0
    assert "finished already" in again.output
    assert "measuring" not in again.output
