"""Pace and Clock: where a run's time goes adds up to the whole, survives a pause, and costs very little."""

import copy
import gc
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from budgetnet import EMA, Data, Distill, Flip, Phase, Recipe, Trainer
from budgetnet.engine import steps
from budgetnet.engine.speed import PARTS, TEACHER, VIEWS, Clock
from budgetnet.run import METRICS, Epoch, Run, images_per_second, pace
from budgetnet.trainer.watch import epoch_line
from tests.work import leaping

PAUSE = 1000.0
"""Seconds that the clock leaps where something takes its time: more than a loaded machine adds."""


@pytest.fixture
def leap() -> Iterator[None]:
    with leaping():
        yield


def pause() -> None:
    """Let the clock leap. It is asked for where it stands, so that no step or network holds what changes."""
    leap: Any = time.perf_counter
    leap.by(PAUSE)


class Slow:
    """A step of augmentation that takes its time."""

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        pause()
        return images, labels


class SlowNetwork(nn.Module):
    """A network whose forward takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type != "meta":
            pause()
        found: Tensor = self.body(images)
        return found


def trainer(**changes: Any) -> Trainer:
    return Trainer("cpu", **{"out": None, "show": False, **changes})


def epoch(**changes: Any) -> Epoch:
    plain = Epoch(1, 1, "learn", 1, 2, 4, 400, 0.1, 12, 1.0, 0.5, train_seconds=4.0, val_seconds=1.0)
    return replace(plain, **{"data_seconds": 1.0, "step_seconds": 2.5, **changes})


def test_time_is_told_where_it_was_spent(data: Data, tmp_path: Path, leap: None) -> None:
    recipe = Recipe([Phase(1, 12, 0.1, augment=[Slow()])], batch_size=60)
    slow_data = trainer(out=tmp_path).fit(nn.Sequential(nn.Flatten(), nn.Linear(432, 3)), data, recipe)
    (found,) = slow_data.history
    assert 4 * PAUSE <= found.data_seconds <= found.train_seconds
    assert found.data_share > 0.5
    assert found.step_seconds < found.data_seconds
    slow_step = trainer().fit(SlowNetwork(), data, Recipe([Phase(1, 12, 0.1)], batch_size=60)).history[0]
    assert 4 * PAUSE <= slow_step.step_seconds <= slow_step.train_seconds
    assert slow_step.data_seconds < 0.5 * slow_step.step_seconds
    times = json.loads((tmp_path / "run-1" / "run.json").read_text())["time"]
    assert sum(times[f"{name}_share"] for name in ("data", "step", "evaluation", "rest")) == pytest.approx(
        1, abs=1e-3
    )
    seconds = sum(times[f"{name}_seconds"] for name in ("data", "step", "evaluation", "rest"))
    assert seconds == pytest.approx(slow_data.result["seconds"], abs=0.01)
    assert times["data_seconds"] == pytest.approx(found.data_seconds, abs=1e-3)
    assert times["images_per_second"] == pytest.approx(found.images_per_second, abs=0.1)


@pytest.mark.parametrize("taught", [False, True])
def test_every_part_of_a_step_is_timed_and_none_twice(taught: bool, data: Data, model: nn.Module) -> None:
    told: list[str] = []
    steps_of_views = [Flip(), Distill(copy.deepcopy(model))] if taught else []
    parts = [part for part in PARTS if taught or part != TEACHER]
    mine = trainer()
    clock = Clock(told=told.append)
    recipe = Recipe([Phase(1, 12, 0.1, augment=steps_of_views)], batch_size=120, average=EMA(0.9))
    training = mine.ready(model, data, recipe)
    training.state.clock = clock
    for _ in steps(training):
        pass
    # Behind a teacher the views go on: what stands behind it is the student's alone.
    after = parts.index(TEACHER) + 1 if taught else 0
    assert told == [*parts[:after], *([VIEWS] if taught else []), *parts[after:], ""] * 2
    assert set(clock.seconds) == set(parts)
    assert sum(clock.seconds.values()) == pytest.approx(clock.of(2, *PARTS))


def test_a_pause_loses_no_time(data: Data, tmp_path: Path, leap: None) -> None:
    recipe = Recipe([Phase(1, 12, 0.1, augment=[Slow()])], batch_size=60)
    mine = trainer(out=tmp_path)
    run = mine.fit(SlowNetwork(), data, recipe, max_time=1e-9)
    while run.status == "paused":
        run = mine.fit(SlowNetwork(), data, recipe, resume=run.folder, max_time=1e-9)
    (found,) = run.history
    assert found.data_seconds >= 4 * PAUSE
    assert found.step_seconds >= 4 * PAUSE
    assert found.data_seconds + found.step_seconds <= found.train_seconds


def test_epochs_of_older_runs_are_read(tmp_path: Path) -> None:
    line = json.loads(epoch().line())
    for name in ("data_seconds", "step_seconds"):
        line.pop(name)
    (tmp_path / METRICS).write_text(json.dumps(line) + "\n")
    (tmp_path / "run.json").write_text("{}")
    run = Run.read(tmp_path)
    assert math.isnan(run.history[0].data_seconds)
    assert images_per_second(run) == 100
    told = pace(run.history, 6.0)
    assert str(told) == "100 images/s"
    assert told.json()["data_seconds"] is None
    assert "data" not in epoch_line(run.history[0])


def test_shares_add_up_to_the_whole() -> None:
    told = pace([epoch(), epoch(number=2)], 12.0)
    assert told.seconds == {"data": 2.0, "step": 5.0, "evaluation": 2.0, "rest": 3.0}
    assert sum(told.shares.values()) == pytest.approx(1)
    assert str(told) == "100 images/s (data 17 %, step 42 %, evaluation 17 %, rest 25 %)"
    # A device's clock may say a little more than the host's.
    assert pace([epoch(step_seconds=3.5)]).seconds["rest"] == 0
    assert str(pace([])) == ""


def test_the_line_of_an_epoch_tells_when_data_take_long() -> None:
    assert epoch_line(epoch(data_seconds=1.0)).endswith("100 images/s  5.0 s")
    assert epoch_line(epoch(data_seconds=2.0)).endswith("100 images/s  5.0 s  data 50 %")


def test_only_the_runs_own_epochs_count() -> None:
    run = Run([epoch(), epoch(number=2, session=2, train_seconds=2.0)])
    assert images_per_second(run) == 200
    assert math.isnan(images_per_second(Run()))


def test_the_weights_kept_are_those_that_will_be_asked_for_and_no_more(data: Data, model: nn.Module) -> None:
    best = Recipe([Phase(3, 12, 0.1), Phase(1, 12, 0.1, start="best")], batch_size=120)
    for recipe, wanted in (
        (replace(best, phases=best.phases[:1]), [{"last"}] * 3),
        (replace(best, phases=best.phases[:1], keep="best"), [{"best"}] * 3),
        (best, [{"last", "best_of_phase"}] * 3 + [{"last"}]),
    ):
        training = trainer().ready(model, data, recipe)
        held = []
        for event in steps(training):
            if isinstance(event, Epoch):
                held.append(set(training.state.kept))
        assert held == wanted
        # What is the same is held once.
        assert len({id(one.state) for one in training.state.kept.values()}) == 1


def test_no_epoch_leaves_a_tensor_behind(data: Data, model: nn.Module) -> None:
    counts = []
    recipe = Recipe([Phase(6, 12, 0.1)], batch_size=60, average=EMA(0.9), keep="best")
    for epoch in trainer().epochs(model, data, recipe):
        # From the second epoch on everything is there.
        if epoch.number in (2, 6):
            gc.collect()
            # Not isinstance, which asks strange objects for their class.
            counts.append(sum(issubclass(type(found), Tensor) for found in gc.get_objects()))
    assert counts[1] <= counts[0]


def test_an_evaluation_tries_the_model_on_nothing_but_its_images(data: Data) -> None:
    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(432, 3))
            self.given: list[tuple[str, int]] = []

        def forward(self, images: Tensor) -> Tensor:
            self.given.append((images.device.type, len(images)))
            found: Tensor = self.body(images)
            return found

    seen = Seen()
    assert data.val is not None
    found = trainer().evaluate(seen, data.val, resolution=12, batch_size=25)
    assert seen.given == [("cpu", 25), ("cpu", 25), ("cpu", 10)]
    assert found.images == 60
    some = data.train.subset(data.train.labels < 2)
    with pytest.raises(
        ValueError, match=r"one logit for each of the 2 classes, \(B, 2\), and gives \(B, 3\)"
    ):
        trainer().evaluate(seen, some, classes=("red", "green"), resolution=12)


def test_epochs_hold_plain_numbers() -> None:
    assert Epoch.read(epoch().line()) == epoch()
    assert asdict(epoch())["data_seconds"] == 1.0
