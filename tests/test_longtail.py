"""Long tails: rare classes are trained on and named, weigh as much as common ones, or come as often."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from PIL import Image

from budgetnet import (
    Cosine,
    Cutmix,
    DistillationLoss,
    LabelSmoothingLoss,
    Phase,
    Recipe,
    Trainer,
    arrays,
    folder,
)
from budgetnet.cli import main
from budgetnet.models import convnet
from budgetnet.randomness import order

LABELS = [0] * 20 + [1] * 3 + [2]


def test_balanced_weights_are_those_of_scikit_learn_and_act_as_torchs() -> None:
    logits, labels = torch.randn(24, 3), torch.tensor(LABELS)
    weights = torch.tensor([24 / (3 * 20), 24 / (3 * 3), 24 / 3])
    loss = LabelSmoothingLoss(0.1, weights="balanced").of_counts([20, 3, 1])
    expected = F.cross_entropy(logits, labels, weights, label_smoothing=0.1)
    assert torch.equal(loss(logits, labels), expected)
    assert torch.equal(LabelSmoothingLoss(0.1, weights=weights.tolist())(logits, labels), expected)
    soft = F.one_hot(labels, 3).float()
    others = LabelSmoothingLoss(0.1, "others", weights=weights.tolist())
    assert torch.allclose(others(logits, soft), F.cross_entropy(logits, soft, weights, label_smoothing=0.15))
    nested = DistillationLoss(0.5, 2.0, LabelSmoothingLoss(0.1, weights="balanced")).of_counts([20, 3, 1])
    both = torch.stack([soft, soft], 1)
    assert nested(logits, both) != DistillationLoss(0.5, 2.0, LabelSmoothingLoss(0.1))(logits, both)


def test_weights_that_cannot_be_are_refused() -> None:
    for wrong in ("balance", -1, [1.0, -1.0], [1.0, "a"]):
        with pytest.raises(ValueError, match="weights"):
            LabelSmoothingLoss(0.1, weights=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has 2 weights, and there are 3 classes"):
        LabelSmoothingLoss(weights=[1, 2]).of_counts([1, 1, 1])
    with pytest.raises(ValueError, match="known when a training begins"):
        LabelSmoothingLoss(weights="balanced")(torch.zeros(1, 2), torch.zeros(1).long())


def test_a_balanced_order_shows_each_class_as_often_and_each_image_of_a_class() -> None:
    labels = torch.tensor(LABELS)
    for views, total in ((1, 24), (2.5, 60)):
        chosen = order(24, views, 0, 3, labels=labels)
        assert len(chosen) == total
        assert torch.bincount(labels[chosen]).tolist() == [total // 3] * 3
        images = torch.bincount(chosen, minlength=24)
        for label in range(3):
            counts = images[labels == label]
            assert counts.max() - counts.min() <= 1
    assert not torch.equal(order(24, 1, 0, 3, labels=labels), order(24, 1, 0, 4, labels=labels))
    assert torch.equal(order(24, 1, 0, 3, labels=labels), order(24, 1, 0, 3, labels=labels))
    odd = torch.bincount(labels[order(24, 25 / 24, 0, 0, labels=labels)])
    assert sorted(odd.tolist()) == [8, 8, 9]
    with pytest.raises(ValueError, match="order should be one of shuffled, balanced"):
        Recipe([Phase(1, 8, 0.1)], order="balance")  # type: ignore[arg-type]


def test_a_run_with_both_goes_on_exactly_and_refuses_another_order(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    data = arrays(
        torch.randint(256, (24, 3, 8, 8), generator=generator, dtype=torch.uint8), torch.tensor(LABELS)
    )
    phase = Phase(epochs=4, resolution=8, lr=Cosine(0.1), augment=[Cutmix(1.0, p=0.5)])
    recipe = Recipe([phase], loss=LabelSmoothingLoss(0.1, weights="balanced"), batch_size=8, order="balanced")

    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return convnet(3, widths=(8,))

    whole, cut = model(), model()
    Trainer("cpu", out=tmp_path / "a", show=False).fit(whole, data, recipe, name="tail")
    trainer = Trainer("cpu", out=tmp_path / "b", show=False)
    run = trainer.fit(cut, data, recipe, max_time=1e-9)
    while run.status == "paused":
        cut = model()
        run = trainer.fit(cut, data, recipe, resume=run.folder, max_time=0.2)
    assert len(run.record["sessions"]) > 1
    for one, other in zip(whole.state_dict().values(), cut.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    paused = trainer.fit(model(), data, recipe, max_time=1e-9).folder
    with pytest.raises(ValueError, match=r"this has changed: recipe\.order: "):
        trainer.fit(model(), data, replace(recipe, order="shuffled"), resume=paused)
    record = json.loads((tmp_path / "a" / "tail-1" / "run.json").read_text())
    assert record["recipe"]["loss"]["weights"] == "balanced"
    assert record["recipe"]["order"] == "balanced"


def test_a_class_of_one_photo_is_trained_on_and_named_by_check_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, count in (("ant", 9), ("bee", 1), ("wasp", 1)):
        for number in range(count):
            path = tmp_path / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9), (20 * number, 50 * len(name), ord(name[0]))).save(path)
    data = folder(tmp_path / "photos", size=8)
    assert data.train.counts(3) == (7, 1, 1)
    note = "2 classes of train without an image in val or test (bee, wasp): not measured there"
    assert note in data.notes
    found = CliRunner().invoke(main, ["check", str(tmp_path / "photos"), "--json"])
    assert found.exit_code == 0
    named = json.loads(found.stdout)["kinds"]["missing class"]["files"]
    assert [each["path"] for each in named] == ["bee", "wasp"]
    assert set(json.loads(found.stdout)["kinds"]) == {finding.kind for finding in data.findings}
