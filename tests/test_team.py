"""Processes that train one run: the bits of one where arithmetic allows, and all leave at the same step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import coloured
from processes import together
from torch import Tensor, nn

from budgetnet import (
    EMA,
    SGD,
    Adam,
    AlternatingFlip,
    Budget,
    Crop,
    Cutmix,
    Data,
    Distill,
    Early,
    Erase,
    FixMatch,
    Flip,
    Jitter,
    Mixup,
    Phase,
    PseudoLabels,
    RandAugment,
    Recipe,
    Rotate,
    Trainer,
    models,
)
from budgetnet.augment import Window, view, window_of

pytestmark = [
    pytest.mark.forks,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no torch.distributed"),
]


def network(*, dropout: float = 0.0) -> nn.Module:
    """Batch norms, a skip and dropout for three classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Budget(params="20k").build(
            models.resnet, classes=3, widths=(8, 16), blocks=(1, 1), dropout=dropout
        )


def unlabelled(data: Data) -> Data:
    return replace(data, unlabelled=coloured(40, val=3, seed=5).train)


VIEWS = [Crop(scale=(0.5, 1.0)), Jitter(0.2, 0.2, 0.2, 0.2), Flip()]


def kinds(epochs: float) -> dict[str, Recipe]:
    """Five kinds of training, of 5 steps an epoch with 9 images each, which two processes share unevenly."""
    e = round(epochs)
    # At larger ones a network of leaky ReLUs makes 1e-3 of what lies 1e-6 apart, in one process too: each
    # unit that is on the other side of zero is a jump.
    rate = 0.002
    return {
        "plain": Recipe([Phase(e, 12, rate, augment=VIEWS)], SGD(), batch_size=9, clip=1.0),
        "mixup + EMA": Recipe(
            [Phase(e, 12, 1e-3, augment=[*VIEWS, Mixup(0.4)])], Adam(), batch_size=9, average=EMA(0.9)
        ),
        "FixMatch": Recipe(
            [Phase(e, 12, rate, augment=VIEWS, pseudo=FixMatch(threshold=0.3, ratio=2))], SGD(), batch_size=9
        ),
        "ramp": Recipe(
            [Phase(e, lambda t: 8 + 2 * round(2 * t), Early(rate, epochs=0.8 * e), augment=VIEWS)],
            SGD(),
            batch_size=9,
        ),
        "frozen": Recipe(
            [
                Phase(e - 1, 12, rate, augment=VIEWS),
                Phase(1, 12, rate, trains=["head"]),
                Phase(1, 16, 0.0, trains=[], calibrates=["*"]),
            ],
            SGD(),
            batch_size=9,
        ),
    }


def brier(logits: Tensor, labels: Tensor) -> Tensor:
    """A metric of the user's own, which wants all answers."""
    return (logits.softmax(dim=1) - torch.eye(3)[labels]).square().sum(dim=1).mean()


def trained(recipe: Recipe, out: Path | None, *, sync: bool = True, **options: Any) -> dict[str, Any]:
    """What a run of the recipe comes to: its weights, and its figures."""
    torch.set_num_threads(1)
    data = unlabelled(coloured(45, val=20))
    trainer = Trainer("cpu", out=out, show=False, sync_batchnorm=sync)
    run = trainer.fit(network(dropout=0.2), data, recipe, **options)
    assert run.model is not None
    lines = [f for e in run.history for f in (e.train_loss, e.train_accuracy, e.val_loss, e.val_accuracy)]
    state = {name: tensor.numpy() for name, tensor in run.model.state_dict().items()}
    return {
        "state": state,
        "epochs": lines,
        "result": dict(run.result),
        "folder": run.folder,
        "status": run.status,
    }


def apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    """How far the weights and statistics of two runs lie apart, of their size."""
    pairs = [
        (torch.from_numpy(one["state"][name]), torch.from_numpy(other["state"][name]))
        for name in one["state"]
    ]
    flat = [torch.cat([each.double().flatten() for each in side]) for side in zip(*pairs)]
    return float((flat[0] - flat[1]).norm() / flat[0].norm())


def same(answers: list[dict[str, Any]]) -> bool:
    """Whether all processes hold the same bits, and figures."""
    states = [{name: array.tobytes() for name, array in each["state"].items()} for each in answers]
    return all(state == states[0] for state in states) and all(
        each["epochs"] == answers[0]["epochs"] for each in answers
    )


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in ("plain", "FixMatch") else pytest.param(kind, marks=pytest.mark.slow)
        for kind in kinds(2)
    ],
)
def test_two_processes_train_what_one_does(kind: str, tmp_path: Path) -> None:
    recipe = kinds(2)[kind]
    alone = trained(recipe, None)
    two = together(2, lambda rank: trained(recipe, None), tmp_path)
    assert same(two)
    assert apart(alone, two[0]) < 1e-5
    assert two[0]["epochs"] == pytest.approx(alone["epochs"], rel=1e-4)


class Teacher(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def shuffled(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """A step from elsewhere, which mixes any rows."""
    return images[torch.randperm(len(images))], labels


@pytest.mark.parametrize(
    ("steps", "read"),
    [
        ([], 3),
        ([Rotate(30), Crop(), Flip(), Jitter(0.3, 0.3, 0.3, 0.3)], 3),
        ([Crop(), Mixup(0.4), Cutmix(1.0), Erase(1.0, value="noise")], 5),
        ([Mixup(0.4), Rotate(20), Distill(Teacher())], 4),
        ([Distill([Teacher(), Teacher()], beside=True), Rotate(20), Mixup(0.4), Cutmix(1.0)], 5),
        ([Distill(Teacher(), beside=True), shuffled], 11),
        ([RandAugment(2, 9), AlternatingFlip()], 3),
        ([Flip(), shuffled], 11),
    ],
)
def test_a_share_of_the_views_is_drawn_as_the_whole_batch(steps: list[Any], read: int) -> None:
    data = coloured(11, val=3)
    images, labels = data.train[torch.arange(11)]

    def seen(images: Tensor, labels: Tensor, window: Window | None) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(7)
        given: dict[str, Any] = {"resolution": 10, "classes": 3, "generator": generator, "window": window}
        return view(images, labels, steps, **given)

    whole = seen(images, labels, None)
    for rank, own in enumerate([slice(0, 3), slice(3, 6), slice(8, 11)]):
        window = window_of(steps, own, 11)
        rows = window.rows()
        assert len(rows) == read, rank
        some = seen(images[rows], labels[rows], window)
        assert all(torch.equal(each[window.own], every[own]) for each, every in zip(some, whole))


def test_norms_of_shares_are_the_same_in_all_processes_and_again(tmp_path: Path) -> None:
    recipe = kinds(2)["plain"]
    first = together(2, lambda rank: trained(recipe, None, sync=False), tmp_path / "a")
    assert same(first)
    # That they see less shows in the figures.
    assert apart(trained(recipe, None), first[0]) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("kind", kinds(20))
def test_after_a_hundred_steps_they_are_within_rounding(kind: str, size: int, tmp_path: Path) -> None:
    recipe = kinds(20)[kind]
    several = together(size, lambda rank: trained(recipe, None), tmp_path)
    assert same(several)
    assert apart(trained(recipe, None), several[0]) < 1e-5


@pytest.mark.slow
def test_so_they_are_with_labels_given_between_phases_and_metrics(tmp_path: Path) -> None:
    phases = [Phase(2, 12, 0.02), Phase(2, 12, 0.02, start="best", pseudo=PseudoLabels(threshold=0.3))]
    recipe = Recipe(phases, SGD(), batch_size=9, keep="best", metrics=[brier], measure=("train", "val"))
    several = together(3, lambda rank: trained(recipe, None), tmp_path)
    alone = trained(recipe, None)
    assert same(several)
    assert apart(alone, several[0]) < 1e-5
    assert several[0]["result"]["val_brier"] == pytest.approx(alone["result"]["val_brier"], rel=1e-5)
    assert several[0]["result"]["val_accuracy"] == alone["result"]["val_accuracy"]
