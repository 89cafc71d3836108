"""dataset: torch's, torchvision's, Hugging Face's and anybody's datasets as data, in memory or in a file."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset

from budgetnet import Data, Flip, Phase, Recipe, Trainer, dataset, folder
from budgetnet.data import DataError, OnDisk, inspect
from budgetnet.models import convnet

RNG = np.random.default_rng(0)
PHOTOS = [Image.fromarray(RNG.integers(256, size=(30 + k, 40, 3), dtype=np.uint8)) for k in range(20)]
PAIRS = [(photo, k % 2) for k, photo in enumerate(PHOTOS)]


class Photos(Dataset[Any]):
    """As torchvision's: with the names of the classes."""

    classes = ("ant", "bee")

    def __init__(self, pairs: list[Any] = PAIRS) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        return self.pairs[index]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(PAIRS)


@pytest.mark.parametrize("shape", ["crop", "squash"])
def test_photos_come_to_their_size_as_those_of_a_folder_do(shape: Any, tmp_path: Path) -> None:
    for k, (photo, label) in enumerate(PAIRS):
        path = tmp_path / "photos" / str(label) / f"{k:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.save(path)
    files = folder(tmp_path / "photos", size=16, shape=shape, held_out=0, cache=tmp_path / "cache")
    ordered = sorted(PAIRS, key=lambda pair: pair[1])
    assert dataset(ordered, size=16, shape=shape, held_out=0).train.fingerprint() == files.train.fingerprint()
    arrays = [(np.asarray(photo), label) for photo, label in ordered]
    tensors = [(torch.from_numpy(array.copy()).permute(2, 0, 1), label) for array, label in arrays]
    for pairs in (arrays, tensors):
        assert torch.equal(dataset(pairs, size=16, shape=shape, held_out=0).train.images, files.train.images)


def test_torch_datasets_subsets_and_streams_are_the_same_data() -> None:
    whole = dataset(Photos(), size=16)
    assert (len(whole.train), len(whole.val or ()), whole.classes) == (16, 4, ("ant", "bee"))
    assert whole.name == "Photos"
    some = dataset({"train": Subset(Photos(), range(10)), "validation": Subset(Photos(), [3, 19])}, size=16)
    assert (len(some.train), len(some.val or ()), some.classes) == (10, 2, ("ant", "bee"))
    streamed = dataset(Stream(), size=16)
    assert streamed.train.fingerprint() == whole.train.fingerprint()
    assert streamed.classes == ("0", "1")


def test_columns_are_found_by_their_names_or_as_stated() -> None:
    rows = [
        {"img": photo, "fine_label": "ab"[label], "patient": k // 5} for k, (photo, label) in enumerate(PAIRS)
    ]
    data = dataset(rows, size=8, groups="patient")
    assert data.classes == ("a", "b")
    assert data.val is not None
    assert set(data.val.groups or ()).isdisjoint(data.train.groups or ())
    stated = dataset(rows, size=8, image="img", label="patient", held_out=0)
    assert stated.classes == ("0", "1", "2", "3")
    with pytest.raises(
        DataError, match=r"should have a column for the label, and have img, patient: .* label="
    ):
        dataset([{"img": row["img"], "patient": 1} for row in rows], size=8)


def test_what_has_no_labels_is_unlabelled() -> None:
    data = dataset({"train": PAIRS, "unsupervised": PHOTOS}, size=8)
    assert data.unlabelled is not None
    assert data.unlabelled.labels.unique().tolist() == [-1]
    left = dataset(PAIRS, size=8, per_class=3, unlabelled=True, held_out=4)
    assert (len(left.train), len(left.unlabelled or ())) == (6, 10)
    assert len(dataset(PAIRS, size=8, unlabelled=PHOTOS[:7]).unlabelled or ()) == 7


def test_greys_stay_grey_and_colours_are_never_lost() -> None:
    greys = [(photo.convert("L"), label) for photo, label in PAIRS]
    assert dataset(greys, size=8).train.shape[1] == 1
    assert dataset(greys, size=8, channels=3).train.shape[1] == 3
    assert dataset(PAIRS, size=8, channels=1).train.shape[1] == 1
    assert dataset([PAIRS[0], *greys[1:]], size=8).train.shape[1] == 3
    with pytest.raises(
        DataError, match=r"train\[1\] is an image of 3x8x8, and the first is of 1x8x8: .*channels="
    ):
        dataset([greys[0], *PAIRS[1:]], size=8)


def test_more_than_fits_into_memory_lies_in_a_file_that_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe([Phase(2, 8, 0.1, augment=[Flip()])], batch_size=8)

    def bits(data: Data) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = convnet(2, widths=(4,))
        Trainer("cpu", out=None, show=False).fit(model, data, recipe)
        return list(model.state_dict().values())

    expected = bits(dataset(PAIRS, size=8))
    monkeypatch.setenv("BUDGETNET_MEMORY", "0")
    data = dataset(PAIRS, size=8, cache=tmp_path)
    assert isinstance(data.train.images, OnDisk)
    assert all(torch.equal(one, other) for one, other in zip(bits(data), expected))
    del data
    assert list(tmp_path.iterdir()) == []


def test_a_look_at_the_data_finds_duplicates() -> None:
    found = inspect(dataset([*PAIRS, (PHOTOS[0], 1)], size=8, held_out=0))
    assert {finding.kind for finding in found.findings} == {"two labels"}


class Broken(Photos):
    def __getitem__(self, index: int) -> Any:
        if index == 3:
            raise OSError("no such drive")
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, "the dataset train is empty"),
        (iter([]), {}, "the dataset train is empty"),
        (5, {}, r"train should be a dataset, .* not 5: make one, or see budgetnet.arrays"),
        (Photos, {}, "train should be a dataset"),
        ({"train": PAIRS, "attic": PAIRS}, {}, "this one has 'attic', which is no name of a part"),
        ({"val": PAIRS, "dev": PAIRS}, {}, "'dev', val a second time"),
        ({"val": PAIRS}, {}, "a dataset for train, not for val"),
        (PAIRS, {"size": 0}, "size should be a whole number"),
        (PAIRS, {"size": 8, "shape": "round"}, "shape should be one of crop, squash"),
        (PAIRS, {}, r"train\[1\] is an image of 3x31x40, and the first is of 3x30x40: give size="),
        (PHOTOS, {"size": 8}, r"train\[0\] should be an \(image, label\), .* and is Image: wrap the dataset"),
        ([(*pair, 1) for pair in PAIRS], {"size": 8}, "and is 3 things"),
        ([("a.jpg", 1)], {"size": 8}, r"train\[0\] should be an image .* and is str"),
        ([([[-5.0, 9.0]], 1)], {}, r"the floats of train\[0\]'s images lie in \[0, 1\], but found -5"),
        ([(torch.rand(3, 8, 8), torch.eye(2)[0])] * 2, {}, "of one-hot rows give"),
        (
            [(photo, "a" if k else math.nan) for k, photo in enumerate(PHOTOS)],
            {"size": 8},
            "image 0 has",
        ),
        ([(photo, None) for photo in PHOTOS], {"size": 8}, "image 0 has none, so drop it"),
        ([(photo, k + 5) for k, photo in enumerate(PHOTOS)], {"size": 8, "classes": ["a"]}, "outside 0"),
        (Broken(), {"size": 8}, r"train\[3\] cannot be read \(OSError: no such drive\): mend it"),
        ({"train": PAIRS, "val": PAIRS}, {"size": 8, "held_out": 2}, "leave held_out out"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(given: Any, options: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset(given, **options)


def test_images_as_lists_are_whole_numbers_or_floats() -> None:
    images = torch.arange(2 * 8 * 8, dtype=torch.uint8).view(2, 8, 8) * 2
    for given in (images, images.double() / 255):
        data = dataset([(image.tolist(), label) for label, image in enumerate(given)] * 2, held_out=0)
        assert torch.equal(data.train.images[:2, 0], images)


def test_an_argument_that_there_is_not_names_the_nearest() -> None:
    with pytest.raises(TypeError, match="no argument 'chanels'; did you mean 'channels'"):
        dataset(PAIRS, size=8, chanels=3)  # type: ignore[call-arg]


@pytest.mark.slow
def test_hugging_faces_own_datasets_are_read_by_their_features(tmp_path: Path) -> None:
    library = pytest.importorskip("datasets")
    features = library.Features(
        {
            "picture": library.Image(),
            "kind": library.ClassLabel(names=["ant", "bee"]),
            "coarse": library.Value("int32"),
        }
    )
    columns = {"picture": PHOTOS, "kind": [label for _, label in PAIRS], "coarse": [0] * len(PAIRS)}
    made = library.Dataset.from_dict(columns, features=features)
    made.save_to_disk(tmp_path / "hf")
    loaded = library.load_from_disk(tmp_path / "hf")
    expected = dataset(Photos(), size=16)
    streamed = loaded.to_iterable_dataset()
    for given in (loaded, library.DatasetDict({"train": loaded}), streamed, loaded.with_format("torch")):
        data = dataset(given, size=16)
        assert data.classes == ("ant", "bee")
        assert data.train.fingerprint() == expected.train.fingerprint()


class Named(Photos):
    def __init__(self, pairs: list[Any], classes: tuple[str, ...]) -> None:
        super().__init__(pairs)
        self.classes = classes  # type: ignore[assignment]


def test_parts_that_number_their_classes_in_other_ways_go_by_name() -> None:
    train = Named([(photo, k % 3) for k, photo in enumerate(PHOTOS)], ("ant", "bee", "cat"))
    val = Named([(photo, k % 2) for k, photo in enumerate(PHOTOS[:6])], ("cat", "bee"))
    data = dataset({"train": train, "val": Subset(val, [0, 1, 2, 3])}, size=8)
    assert data.classes == ("ant", "bee", "cat")
    assert data.val is not None
    assert data.val.labels.tolist() == [2, 1, 2, 1]
    assert data.train.labels.tolist()[:3] == [0, 1, 2]
    strange = Named([(PHOTOS[0], 0), (PHOTOS[1], 1)], ("cat", "dog"))
    with pytest.raises(DataError, match=r"val has other classes than train: .*dog"):
        dataset({"train": train, "val": strange}, size=8)
    given = dataset({"train": train, "val": val}, size=8, classes=["x", "y", "z"])
    assert given.val is not None
    assert given.val.labels.tolist() == [0, 1, 0, 1, 0, 1]
