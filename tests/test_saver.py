"""Saver: checkpoints by the clock, for so small a share of the time, however slow the disk is."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import coloured
from torch import nn

from budgetnet import Phase, Recipe, Run
from budgetnet.engine import Kept, Training, TrainingStep
from budgetnet.engine.measure import Engine
from budgetnet.files import checkpoint
from budgetnet.trainer import saver
from budgetnet.trainer.saver import COST, EVERY, Saver, Stop


class Clock:
    """A clock that only goes on where it is told to."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patched.setattr("time.monotonic", lambda: self.now)


def saves(
    each: float,
    hours: float,
    model: nn.Module,
    place: Path,
    patched: pytest.MonkeyPatch,
    *,
    weights: float = 0.0,
) -> tuple[list[float], float]:
    """When a training with steps of a second saves on a disk that takes `each` seconds; their share.

    After every tenth step it has an epoch, whose weights take `weights` seconds to write.
    """
    clock, found, spent = Clock(patched), [], [0.0]

    def take(seconds: float) -> None:
        clock.now += seconds
        spent[0] += seconds

    def save(*rest: object) -> None:
        found.append(clock.now - 1000)
        take(each)

    patched.setattr(checkpoint, "save", save)
    patched.setattr(saver, "capture", lambda training: ({}, {}))
    patched.setattr(saver, "card_of", lambda training, phase: None)
    patched.setattr(saver, "write", lambda *rest: take(weights))
    data = coloured(24)
    engine = Engine(torch.device("cpu"), None, torch.channels_last)
    training = Training.fresh(model, data, Recipe([Phase(1, 12, 0.1)]), engine)
    patched.setattr(Training, "phase_of", lambda self, kept: self.recipe.phases[0])
    training.state.kept["last"] = Kept({}, None)  # type: ignore[arg-type]
    saving = Saver(Run(folder=place), Stop(None), training, {})
    while clock.now - 1000 < 3600 * hours:
        clock.now += 1.0
        training.state.step += 1
        saving(TrainingStep(training.state.step, *([None] * 12)))  # type: ignore[arg-type]
        if weights and training.state.step % 10 == 0:
            saving.weights()
    return found, spent[0] / (clock.now - 1000)


@pytest.mark.parametrize("each", [0.0, 0.1, 0.5])
def test_a_fast_disk_gets_a_checkpoint_a_minute(
    each: float, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, share = saves(each, 1, model, tmp_path, monkeypatch)
    assert found[0] == pytest.approx(EVERY, abs=1)
    gaps = [after - before for before, after in pairwise(found)]
    assert max(gaps) <= EVERY + 1 + each
    assert share <= 1 / COST


@pytest.mark.parametrize("each", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("weights", [0.0, 2.0])
def test_a_slow_disk_takes_a_hundredth_of_the_time(
    each: float, weights: float, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, share = saves(each, 6, model, tmp_path, monkeypatch, weights=weights)
    assert share <= 1 / COST
    # A kill costs what the law says; half as much more where weights are written for who looks on.
    gaps = [after - before for before, after in pairwise(found[2:])]
    assert len(gaps) > 3, "they are not given up either"
    assert max(gaps) <= (1.5 if weights else 1) * COST * each + each + 60
