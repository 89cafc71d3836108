"""evaluate and predict against plain torch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import functional

from budgetnet import Budget, Data, Evaluation, Run, Split, Test, Trainer, by_resolution, metrics, models


@pytest.fixture
def wide() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.convnet(10, widths=(8, 16))


@pytest.fixture
def split() -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (70, 3, 20, 20), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(70) % 9, torch.arange(70))


def trainer() -> Trainer:
    return Trainer("cpu", out=None, show=False)


def test_evaluate_is_plain_torch(wide: nn.Module, split: Split) -> None:
    names = tuple("abcdefghij")
    found = trainer().evaluate(wide, split, classes=names, test=Test(resize=18, crop=16), batch_size=32)
    assert isinstance(found, Evaluation)
    images = functional.resize(split.images.float() / 255, [18], antialias=True)
    wide.eval()
    with torch.no_grad():
        logits = wide(functional.center_crop(images, [16, 16]))
    assert found.loss == pytest.approx(F.cross_entropy(logits, split.labels).item(), rel=1e-5)
    guessed = logits.argmax(dim=1)
    assert found.accuracy == pytest.approx((guessed == split.labels).double().mean().item())
    hits = (logits.topk(5).indices == split.labels[:, None]).any(dim=1)
    assert found.top5 == pytest.approx(hits.double().mean().item())
    for i in range(10):
        for j in range(10):
            assert found.confusion[i][j] == int(((split.labels == i) & (guessed == j)).sum())
    assert found.per_class[0] == pytest.approx(found.confusion[0][0] / sum(found.confusion[0]))
    assert np.isnan(found.per_class[9])
    assert found.images == 70
    assert found.resolution == 16


def test_the_model_is_left_in_its_modes(wide: nn.Module, split: Split) -> None:
    wide.train()
    wide[1].eval()
    modes = [module.training for module in wide.modules()]
    before = {name: tensor.clone() for name, tensor in wide.state_dict().items()}
    trainer().evaluate(wide, split, classes=tuple("abcdefghij"), resolution=20)
    assert [module.training for module in wide.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in wide.state_dict().items())


def test_probabilities_add_up_and_follow_the_logits(wide: nn.Module, split: Split) -> None:
    found = trainer().predict(wide, split.images, batch_size=32)
    wide.eval()
    with torch.no_grad():
        expected = wide(split.images.float() / 255).softmax(dim=1)
    torch.testing.assert_close(found.probabilities, expected)
    assert torch.equal(found.labels, expected.argmax(dim=1))
    assert torch.equal(found.confidence, found.probabilities.max(dim=1).values)


def test_tensors_arrays_floats_and_splits_are_predicted_alike(wide: nn.Module, split: Split) -> None:
    expected = trainer().predict(wide, split.images).probabilities
    torch.testing.assert_close(trainer().predict(wide, split, resolution=20).probabilities, expected)
    for given in (
        split.images.numpy(),
        split.images.permute(0, 2, 3, 1).numpy(),
        split.images.float() / 255,
    ):
        torch.testing.assert_close(trainer().predict(wide, given).probabilities, expected)
    one = trainer().predict(wide, split.images[3]).probabilities
    torch.testing.assert_close(one, expected[3:4])


def photos(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = []
    for k, (mode, size) in enumerate([("RGB", (40, 30)), ("L", (20, 20)), ("RGBA", (33, 50))]):
        paths.append(folder / f"{k}.png")
        Image.new(mode, size, 120).save(paths[-1])
    (folder / "notes.txt").write_text("not an image")
    return paths


def test_files_and_folders_are_predicted_at_the_resolution(wide: nn.Module, tmp_path: Path) -> None:
    paths = photos(tmp_path / "in")
    by_folder = trainer().predict(wide, tmp_path / "in", resolution=16)
    by_files = trainer().predict(wide, [str(path) for path in paths], resolution=16, batch_size=2)
    assert by_folder.names == tuple(str(path) for path in paths)
    torch.testing.assert_close(by_folder.probabilities, by_files.probabilities)


def test_files_that_cannot_be_read_are_named(wide: nn.Module, tmp_path: Path) -> None:
    photos(tmp_path / "in")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8 not much")
    with pytest.raises(ValueError, match=r"broken\.jpg: "):
        trainer().predict(wide, tmp_path / "in", resolution=16)
    with pytest.raises(ValueError, match="no image file or folder"):
        trainer().predict(wide, tmp_path / "absent.png", resolution=16)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image files"):
        trainer().predict(wide, tmp_path / "empty", resolution=16)
    with pytest.raises(ValueError, match="give resolution="):
        trainer().predict(wide, tmp_path / "in")
    with pytest.raises(ValueError, match="not a list of int"):
        trainer().predict(wide, [1, 2])  # type: ignore[list-item]


def test_a_grey_model_sees_greys_of_photos(tmp_path: Path) -> None:
    photos(tmp_path / "in")
    model = Budget("10k").build(models.convnet, classes=2, channels=1, widths=(8,))
    from budgetnet.modelfile import Card

    model.card = Card(classes=("a", "b"), resize=16, crop=16, channels=1)
    assert trainer().predict(model, tmp_path / "in").probabilities.shape == (3, 2)


def test_wrong_numbers_of_classes_and_channels_are_one_sentence(wide: nn.Module, data: Data) -> None:
    with pytest.raises(ValueError, match="tells 10 classes apart, and 2 names"):
        trainer().predict(wide, data.train.images[:2], classes=("a", "b"))
    with pytest.raises(ValueError, match="channels"):
        trainer().predict(wide, torch.zeros(2, 1, 12, 12, dtype=torch.uint8))
    with pytest.raises(ValueError, match="one logit for each of the 3 classes"):
        trainer().evaluate(wide, data.train, classes=data.classes, resolution=12)


class Dazzled(nn.Module):
    """Gives NaN for images whose first pixel is at its brightest."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images)
        return logits.masked_fill(images[:, 0, 0, :1] == 1, torch.nan)


def test_answers_that_are_no_numbers_are_counted_and_predict_gives_none(
    wide: nn.Module, split: Split
) -> None:
    images = split.images.clone()
    images[:, 0, 0, 0] = 0
    images[[4, 9, 60], 0, 0, 0] = 255
    dazzled, given, names = Dazzled(wide), Split(images, split.labels, split.indices), tuple("abcdefghij")
    said = "the model gives NaN or infinity for 3 of 70 images"
    with pytest.raises(ValueError, match=f"^{said}, such as 4: leave these out, or train it anew$"):
        trainer().predict(dazzled, images, batch_size=32)
    found = trainer().evaluate(dazzled, given, classes=names, resolution=20, metrics=[metrics.ECE()])
    assert found.unanswered == found.json()["unanswered"] == 3
    assert str(found).endswith(f"; {said}")
    assert (found.json()["loss"], found.json()["metrics"]) == (None, {"ece": None})
    measured = trainer().evaluate(wide, given, classes=names, resolution=20)
    assert measured.unanswered == 0
    assert "NaN" not in str(measured)


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", True])
def test_sizes_that_are_no_sizes_are_refused(wide: nn.Module, split: Split, size: Any) -> None:
    for ask, given in ((trainer().evaluate, split), (trainer().predict, split.images)):
        for name in ("batch_size", "resolution"):
            with pytest.raises(
                ValueError, match=f"{name} should be a whole number of 1 or more, not {size!r}"
            ):
                ask(wide, given, **({"resolution": 20} | {name: size}))  # type: ignore[operator]
    with pytest.raises(ValueError, match="by_resolution's batch_size"):
        by_resolution(trainer(), wide, split, [20], classes=tuple("abcdefghij"), batch_size=size)


def test_what_is_no_model_is_refused_with_the_way_to_one(wide: nn.Module, split: Split) -> None:
    for given, what in ((Run(model=wide), "a Run"), ("runs/a-1", "'runs/a-1'"), (Path("a"), ".*Path.*")):
        for each in (given, [wide, given]):
            with pytest.raises(ValueError, match=f"not {what}: give run.model, or budgetnet.load.folder.$"):
                trainer().predict(each, split)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match=f"not {what}: give run.model, or budgetnet.load.folder.$"):
                trainer().evaluate(each, split)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"not \[\]: give one of these"):
        trainer().predict([], split)
