"""Training on what is unlabelled: rounds of pseudo-labels, and FixMatch, in phases."""

import copy
import csv
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import coloured
from torch import nn

from budgetnet import (
    SGD,
    Budget,
    Data,
    FixMatch,
    Flip,
    Phase,
    PseudoLabels,
    Recipe,
    Run,
    Split,
    Trainer,
    models,
)
from budgetnet.augment import view
from budgetnet.pseudo import keep, read_csv
from budgetnet.randomness import UNLABELLED, VIEW, drawn, order


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Budget(params="20k").build(models.convnet, classes=3, widths=(8, 16))


def trainer(out: Path | None = None) -> Trainer:
    return Trainer("cpu", out=out, show=False)


def partly_labelled(labels: int = 60, unlabelled: int = 240) -> tuple[Data, torch.Tensor]:
    """Data with few labels, and the true labels of what has none."""
    few, pool = coloured(labels), coloured(unlabelled, seed=3).train
    hidden = Split(pool.images, torch.full_like(pool.labels, -1), pool.indices)
    return Data(few.train, few.val, None, few.classes, "few", hidden), pool.labels


def test_a_round_trains_on_what_the_model_is_sure_of(tmp_path: Path) -> None:
    data, truth = partly_labelled()
    how = PseudoLabels(threshold=0.6)
    alone, rounds = Phase(4, 12, 0.05), Phase(2, 12, 0.05, pseudo=how)
    run = trainer(tmp_path).fit(network(), data, Recipe([alone, rounds], batch_size=30))
    first = network()
    trainer().fit(first, data, Recipe([alone], batch_size=30))
    expected = keep(trainer().predict(first, data.unlabelled, resolution=12).probabilities, 0.6)
    assert 30 < len(expected) < 240 or len(expected) == 240
    assert [epoch.pseudo_images for epoch in run.history] == [0] * 4 + [len(expected)] * 2
    assert run.history[-1].steps == (60 + len(expected)) // 30
    assert run.result["val_images"] == 60
    listed = read_csv(tmp_path / "run-1" / "pseudo-labels-2.csv", data.unlabelled, data.classes)
    assert torch.equal(listed.positions, expected.positions)
    assert torch.equal(listed.labels, expected.labels)
    assert (listed.labels == truth[listed.positions]).float().mean() > 0.9
    with (tmp_path / "run-1" / "pseudo-labels-2.csv").open() as file:
        assert next(csv.reader(file)) == ["index", "label", "confidence", "threshold", "temperature"]


def test_a_round_of_which_nothing_is_sure_trains_on_the_labels_alone(tmp_path: Path) -> None:
    data, _ = partly_labelled()
    doubtful = Phase(1, 12, 0.05, pseudo=PseudoLabels(threshold=0.9999999))
    run = trainer(tmp_path).fit(network(), data, Recipe([doubtful], batch_size=30))
    assert run.history[0].pseudo_images == 0
    assert run.history[0].images == 60


def test_the_datas_own_splits_stay_as_they_are() -> None:
    data, _ = partly_labelled()
    before = [split.fingerprint() for split in data.splits.values()]
    rounds = [Phase(1, 12, 0.05), Phase(1, 12, 0.05, pseudo=PseudoLabels(threshold=0.4))]
    trainer().fit(network(), data, Recipe(rounds, batch_size=30))
    assert [split.fingerprint() for split in data.splits.values()] == before


def test_a_step_of_fixmatch_is_the_papers() -> None:
    data, _ = partly_labelled()
    assert data.unlabelled is not None
    how = FixMatch(threshold=0.34, weight=0.7, ratio=2, weak=[Flip()], strong=[Flip(vertical=True)])
    phase = Phase(1, 12, 0.1, pseudo=how)
    model, hand = network(), network()
    optimizer = SGD(0.0, nesterov=False, weight_decay=0.0)
    run = trainer().fit(model, data, Recipe([phase], optimizer, batch_size=60))
    hand[0].fit(*data.train.mean_std())
    hand = hand.to(memory_format=torch.channels_last).train()
    generator = torch.Generator().manual_seed(drawn(0, VIEW, 0))
    images, labels = data.train[order(60, 1, 0, 0)]
    images, labels = view(images, labels, (), resolution=12, classes=3, generator=generator)
    generator = torch.Generator().manual_seed(drawn(0, UNLABELLED, 0))
    stored, _ = data.unlabelled[torch.randint(240, (120,), generator=generator)]
    zeros = torch.zeros(120, dtype=torch.int64)
    weak, strong = (
        view(stored, zeros, steps, resolution=12, classes=3, generator=generator)[0]
        for steps in (how.weak, how.strong)
    )
    batch = torch.cat([images, weak, strong]).contiguous(memory_format=torch.channels_last)
    known, of_weak, of_strong = torch.split(hand(batch), [60, 120, 120])
    confidence, guess = of_weak.detach().softmax(dim=1).max(dim=1)
    sure = (confidence >= 0.34).float()
    unlabelled = (F.cross_entropy(of_strong, guess, reduction="none") * sure).mean()
    (F.cross_entropy(known, labels) + 0.7 * unlabelled).backward()
    with torch.no_grad():
        for parameter in hand.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    for (name, found), expected in zip(model.named_parameters(), hand.parameters()):
        assert torch.allclose(found, expected, atol=1e-6), name
    assert run.history[0].pseudo_share == pytest.approx(sure.mean().item(), abs=1e-6)
    assert 0 < run.history[0].pseudo_share <= 1


def test_fixmatch_learns_from_few_labels() -> None:
    data, _ = partly_labelled(labels=12)
    how = FixMatch(threshold=0.7, ratio=3, weak=[Flip()], strong=[Flip(), Flip(vertical=True)])
    run = trainer().fit(network(), data, Recipe([Phase(20, 12, 0.05, views=4, pseudo=how)], batch_size=12))
    assert run.result["val_accuracy"] > 0.9
    assert run.history[-1].pseudo_share > run.history[0].pseudo_share


@pytest.mark.parametrize("how", [PseudoLabels(), FixMatch()])
def test_data_without_unlabelled_images_are_refused(how: PseudoLabels | FixMatch) -> None:
    with pytest.raises(
        ValueError, match=f"phase 1 has {type(how).__name__}, and .* has no unlabelled images"
    ):
        trainer().fit(network(), coloured(), Recipe([Phase(1, 12, 0.1, pseudo=how)]))


def test_pseudo_is_one_of_the_two() -> None:
    with pytest.raises(ValueError, match=r"Phase's pseudo should be PseudoLabels\(\), FixMatch\(\) or None"):
        Phase(1, 12, 0.1, pseudo=0.8)  # type: ignore[arg-type]


def test_the_record_tells_of_the_thresholds_and_the_unlabelled_images(tmp_path: Path) -> None:
    data, _ = partly_labelled()
    how = PseudoLabels(threshold=0.5, temperature=0.5)
    trainer(tmp_path).fit(network(), data, Recipe([Phase(1, 12, 0.05, pseudo=how)], batch_size=30))
    record = Run.read(tmp_path / "run-1").record
    described = record["recipe"]["phases"][0]["pseudo"]
    assert (described["class"], described["threshold"], described["temperature"]) == (
        "PseudoLabels",
        0.5,
        0.5,
    )
    assert record["data"]["images"]["unlabelled"] == 240
    assert copy.deepcopy(how) == how
