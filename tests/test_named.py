"""Labels are carried from one set of data to another by the names of their classes, or refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from budgetnet import Data, Phase, Recipe, Split, Trainer, arrays
from budgetnet.data import DataError
from budgetnet.data.labels import class_difference, renumbered
from budgetnet.distill import Distill
from budgetnet.reporting import by_resolution
from budgetnet.sweep.shared import share, shared

TONES = {"black": 0, "dark": 85, "light": 170, "white": 255}


class Tones(nn.Module):
    """A network that tells tones apart without learning: (B, 1, H, W) -> (B, K)."""

    def __init__(self, names: str = "black dark light white") -> None:
        super().__init__()
        self.tones = nn.Parameter(torch.tensor([TONES[name] / 255 for name in names.split()]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = -((images.mean(dim=(1, 2, 3))[:, None] - self.tones) ** 2)
        return 100 * found


def pictures(names: str, *, each: int = 6, held_out: int = 0) -> Data:
    said = names.split()
    pixels = np.stack([np.full((4, 4), TONES[name], np.uint8) for name in said for _ in range(each)])
    return arrays(pixels, [name for name in said for _ in range(each)], held_out=held_out or None)


def trained(names: str = "black dark light white") -> tuple[Trainer, nn.Module]:
    trainer, model = Trainer("cpu", out=None, show=False), Tones(names)
    trainer.fit(model, pictures(names), Recipe([Phase(1, 4, 1e-9)], measure=()))
    return trainer, model


def test_data_that_lack_a_class_are_measured_by_name() -> None:
    trainer, model = trained()
    found = trainer.evaluate(model, pictures("black light white").train)
    assert found.accuracy == 1
    assert found.classes == ("black", "dark", "light", "white")
    assert found.per_class[0] == found.per_class[2] == 1
    assert np.isnan(found.per_class[1])
    assert by_resolution(trainer, model, pictures("light white").train, [4]).rows[0].accuracy == 1


def test_another_order_of_the_same_names_is_measured_by_name() -> None:
    trainer, model = trained()
    pixels = pictures("black dark light white").train.images
    order = ("white", "light", "dark", "black")
    data = arrays(pixels, [3 - k // 6 for k in range(24)], classes=order)
    assert trainer.evaluate(model, data.train).accuracy == 1


def test_other_names_are_refused_with_what_differs() -> None:
    trainer, model = trained()
    other = arrays(pictures("black dark light white").train.images, list("abcd") * 6)
    for ask in (trainer.evaluate, lambda model, split: by_resolution(trainer, model, split, [4])):
        with pytest.raises(ValueError, match="labels a, b, c, d are none of the classes black, dark, light"):
            ask(model, other.train)
    # A name that no image has is no mistake.
    images, _ = pictures("black dark").train[:]
    more = arrays(images, ["black"] * 6 + ["dark"] * 6, classes=["red", "dark", "black"])
    assert trainer.evaluate(model, more.train).accuracy == 1


def test_numbers_are_no_names_until_somebody_says_so() -> None:
    trainer, model = trained()
    split = arrays(pictures("black dark light white").train.images, torch.arange(24) // 6).train
    with pytest.raises(ValueError, match=r"labels 0, 1, 2, 3 are none of the classes .* give classes="):
        trainer.evaluate(model, split)
    names = ("black", "dark", "light", "white")
    assert trainer.evaluate(model, split, classes=names).accuracy == 1
    assert trainer.evaluate(model, split, classes=split.classes).accuracy == 1
    bare = Split(split.images, split.labels, split.indices)
    assert trainer.evaluate(model, bare).accuracy == 1
    with pytest.raises(ValueError, match="a label 3, and the model 2 classes"):
        trainer.evaluate(model, split, classes=("black", "dark"))


def test_images_without_labels_are_not_measured() -> None:
    trainer, model = trained()
    split = pictures("black dark").train
    with pytest.raises(ValueError, match=r"none \(-1\)"):
        trainer.evaluate(model, replace(split, labels=torch.full_like(split.labels, -1)))


def test_a_split_keeps_its_classes_wherever_it_goes() -> None:
    data = pictures("black dark light", held_out=6)
    assert data.val is not None
    train = data.train
    for split in (train, data.val, train.subset([0, 1]), train.to("cpu"), train.in_memory()):
        assert split.classes == ("black", "dark", "light")
    assert shared(share(data)).train.classes == data.classes
    assert shared(share(replace(data, shape="squash"))).shape == "squash"


def test_data_take_splits_over_by_name() -> None:
    few, all_ = pictures("black white"), pictures("black dark light white")
    data = Data(all_.train, few.train, None, all_.classes, "tones")
    assert data.val is not None
    assert data.val.classes == all_.classes
    assert data.val.labels.tolist() == [0] * 6 + [3] * 6
    assert data.train is all_.train
    turned = replace(all_, classes=tuple(reversed(all_.classes)))
    assert turned.train.labels.tolist() == [3 - k // 6 for k in range(24)]


def test_data_refuse_splits_of_other_classes() -> None:
    tones = pictures("black dark")
    assert tones.classes == ("black", "dark")
    other = arrays(tones.train.images, ["a"] * 6 + ["b"] * 6)
    with pytest.raises(
        DataError, match=r"val has other classes than the data \(a, b only here and black, dark"
    ):
        Data(tones.train, other.train, None, tones.classes, "tones")
    with pytest.raises(DataError, match="train has other classes"):
        replace(tones, classes=("dark", "grey"))


def test_classes_may_be_renamed() -> None:
    tones = pictures("black dark", held_out=2)
    renamed = replace(tones, classes=("black", "grey"))
    assert renamed.train.classes == ("black", "grey")
    assert renamed.train.labels.tolist() == tones.train.labels.tolist()
    assert replace(tones, classes=("schwarz", "dunkel")).train.labels.tolist() == tones.train.labels.tolist()


def test_a_teacher_of_other_classes_is_refused_with_what_differs() -> None:
    _, model = trained()
    with pytest.raises(ValueError, match="dark, white only there"):
        Distill(model).ready(pictures("black light"))
    with pytest.raises(ValueError, match="calls class 1 'dark', and arrays calls it 'grey'"):
        Distill(model).ready(
            replace(pictures("black dark light white"), classes=("black", "grey", "light", "white"))
        )


def test_weights_of_other_classes_are_not_followed_and_the_names_are_said(tmp_path: Path) -> None:
    trainer = Trainer("cpu", out=tmp_path, show=False)
    recipe = Recipe([Phase(1, 4, 1e-9)], measure=())
    trainer.fit(Tones("black dark"), pictures("black dark"), recipe)
    with pytest.raises(ValueError, match="white only here and dark only there"):
        trainer.fit(Tones("black white"), pictures("black white"), recipe, after=tmp_path / "run-1")


def test_differences_of_names_are_told_in_words() -> None:
    assert class_difference(("a", "c"), ("a", "b")) == "c only here and b only there"
    assert class_difference(("a",), ("a", "b")) == "b only there"
    assert class_difference(("b", "a"), ("a", "b")) == "another order, class 0 being b here and a there"
    labels = torch.tensor([1, -1, 0])
    assert renumbered(labels, ("a", "b"), ("b", "c", "a")).tolist() == [0, -1, 2]
