"""What is not finite: told within a step wherever it appears, and kept out of everything that is saved."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import budgetnet
from budgetnet import EMA, Adam, Data, Phase, Recipe, Run, Trainer, TrainingFailed
from budgetnet import checkpoint as checkpoints
from budgetnet.trainer import NotFinite, saver

STEPS = 20
PLACES = ("images", "labels", "loss", "gradient", "weight", "statistic", "head")


def recipe(**changes: Any) -> Recipe:
    # 5 steps an epoch.
    return Recipe([Phase(4, 12, 0.01)], **{"optimizer": Adam(), "batch_size": 48, **changes})


class Poison:
    """A step of augment and a loss that spoil one thing at one step of the training."""

    def __init__(self, model: nn.Module, place: str, at: int, value: float) -> None:
        self.model, self.place, self.at, self.value = model, place, at, value
        self.seen = -1

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += 1
        if self.seen != self.at:
            return images, labels
        if self.place == "images":
            images = images.clone()
            images[0, 0, 0, 0] = self.value
        elif self.place == "labels":
            labels = torch.nn.functional.one_hot(labels, 3).float()
            labels[0, 0] = self.value
        with torch.no_grad():
            if self.place == "weight":
                next(self.model.parameters())[0, 0, 0, 0] = self.value
            elif self.place == "head":
                list(self.model.parameters())[-1][0] = self.value
            elif self.place == "statistic":
                norm = next(m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d))
                assert norm.running_var is not None
                norm.running_var[0] = self.value
        return images, labels

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss = torch.nn.functional.cross_entropy(logits, labels)
        if self.seen != self.at:
            return loss
        if self.place == "loss":
            return loss * self.value
        if self.place == "gradient":
            logits.register_hook(lambda gradient: gradient * self.value)
        return loss


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_it_stops_the_run_within_a_step(
    place: str, value: float, model: nn.Module, data: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The first step, the last one of an epoch, and one within.
    spoilt(place, value, (0, 4, 7), model, data, monkeypatch, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_it_stops_the_run_within_a_step_at_each_of_twenty(
    place: str, model: nn.Module, data: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoilt(place, math.nan, range(STEPS), model, data, monkeypatch, tmp_path)


def spoilt(
    place: str,
    value: float,
    steps: Iterable[int],
    model: nn.Module,
    data: Data,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Train once for each of the steps, spoiling this place there, and look at what is left."""
    monkeypatch.setattr(saver, "EVERY", 0.0)
    monkeypatch.setattr(saver, "COST", 0.0)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for at in steps:
        model.load_state_dict(fresh)
        poison = Poison(model, place, at, value)
        recipe_ = Recipe([Phase(4, 12, 0.01, augment=[poison])], Adam(), poison.loss, batch_size=48)
        with pytest.raises(NotFinite, match=r"became|holds a NaN or an infinity") as error:
            Trainer("cpu", out=tmp_path / str(at), show=False).fit(model, data, recipe_)
        # A gradient spoils the weights after its step; the next one, if there is one, tells.
        assert poison.seen - at <= 1
        assert isinstance(error.value, TrainingFailed)
        run = Run.read(tmp_path / str(at) / "run-1")
        assert run.status == "failed"
        assert len(run.history) <= at // 5 + 1
        found, bad = checkpoints.newest(tmp_path / str(at) / "run-1")
        assert not bad
        assert (found is not None) == (at > 0)
        if found is not None:
            assert all(bool(t.isfinite().all()) for t in found.tensors.values() if t.is_floating_point())
        if len(run.history):
            kept = budgetnet.load(run.folder).state_dict().values()
            assert all(bool(tensor.isfinite().all()) for tensor in kept if tensor.is_floating_point())


def test_averaged_weights_are_looked_at_too(model: nn.Module, data: Data) -> None:
    poison = Poison(model, "gradient", 4, math.nan)
    averaged = Recipe(
        [Phase(2, 12, 0.01, augment=[poison])],
        loss=poison.loss,
        batch_size=48,
        average=EMA(0.9),
        keep="averaged",
    )
    with pytest.raises(NotFinite, match="after step 5"):
        Trainer("cpu", out=None, show=False).fit(model, data, averaged)


def test_a_sound_training_is_left_alone(model: nn.Module, data: Data) -> None:
    assert Trainer("cpu", out=None, show=False).fit(model, data, recipe()).status == "finished"
