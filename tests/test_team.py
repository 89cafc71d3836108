"""Processes that train one run: the bits of one where arithmetic allows, and all leave at the same step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import coloured
from processes import together
from torch import nn

from budgetnet import (
    EMA,
    SGD,
    Adam,
    Budget,
    Crop,
    Data,
    Early,
    FixMatch,
    Flip,
    Jitter,
    Mixup,
    Phase,
    Recipe,
    Trainer,
    models,
)

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no torch.distributed")


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
    rate = 0.02
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
