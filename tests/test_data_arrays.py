"""Arrays and digits: every layout that is taken, and the way out for those that are not."""

import sys
from typing import Any

import numpy as np
import pytest
import torch

from budgetnet.data import Data, DataError, Split, arrays, digits

RNG = np.random.default_rng(0)
GREY = RNG.integers(256, size=(10, 6, 7), dtype=np.uint8)
COLOUR = RNG.integers(256, size=(10, 6, 7, 3), dtype=np.uint8)
LABELS = [0, 1] * 5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (GREY, GREY[:, None]),
        (GREY[..., None], GREY[:, None]),
        (GREY[:, None], GREY[:, None]),
        (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR.transpose(0, 3, 1, 2)),
        (torch.from_numpy(COLOUR), COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR[:, ::-1], COLOUR[:, ::-1].transpose(0, 3, 1, 2)),
        (COLOUR / 255, COLOUR.transpose(0, 3, 1, 2)),
        ((COLOUR / 255).astype(np.float32), COLOUR.transpose(0, 3, 1, 2)),
        ((COLOUR / 255).astype(">f8"), COLOUR.transpose(0, 3, 1, 2)),
        (torch.from_numpy(COLOUR).float().requires_grad_() / 255, COLOUR.transpose(0, 3, 1, 2)),
    ],
)
def test_every_layout_and_type_gives_the_same_images(given: Any, expected: np.ndarray) -> None:
    data = arrays(given, LABELS)
    np.testing.assert_array_equal(data.train.images.numpy(), expected)
    assert data.train.images.is_contiguous()
    assert data.classes == ("0", "1")
    assert data.val is None


def test_read_only_arrays_are_taken_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    frozen = GREY.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(arrays(frozen, LABELS).train.images[:, 0].numpy(), GREY)
    assert len(recwarn) == 0


def test_images_are_shared_not_copied_and_never_written() -> None:
    images = torch.from_numpy(COLOUR.transpose(0, 3, 1, 2).copy())
    assert arrays(images, LABELS).train.images.data_ptr() == images.data_ptr()
    before = GREY.copy()
    arrays(GREY / 255, LABELS, held_out=0.5)
    np.testing.assert_array_equal(GREY, before)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (GREY.astype(np.float32), r"lie in \[0, 1\], but found 0 \.\.\. 255: .*make them uint8"),
        (GREY / 255 - 0.5, "undo their normalisation"),
        (GREY * 1000.0, "scale them"),
        (np.full((10, 6, 7), np.nan), "nan"),
        (GREY.astype(np.int64), r"found int64 \(10, 6, 7\)"),
        (GREY.astype(np.uint16), "found uint16"),
        (GREY > 100, "found bool"),
        (torch.from_numpy(GREY).int(), "found int32"),
        (GREY[0], r"found uint8 \(6, 7\)"),
        (GREY[:0], r"found uint8 \(0, 6, 7\)"),
        (RNG.integers(256, size=(10, 6, 7, 4), dtype=np.uint8), "drop the other channels"),
        (np.zeros((10, 3, 5, 3), np.uint8), r"may be read as \(N, H, W, C\) or \(N, C, H, W\)"),
        ([[1, 2], [3, 4]], "a NumPy array or a tensor, but found list"),
    ],
)
def test_images_that_cannot_be_taken_are_refused_with_the_way_out(images: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        arrays(images, LABELS)


def test_names_are_classes_in_alphabetical_order() -> None:
    for labels in (
        ["dog", "ant"] * 5,
        np.array(["dog", "ant"] * 5),
        np.array(["dog", "ant"] * 5, dtype=object),
    ):
        data = arrays(GREY, labels)
        assert data.classes == ("ant", "dog")
        assert data.train.labels.tolist() == [1, 0] * 5


def test_classes_given_decide_the_order_and_may_lack_images() -> None:
    data = arrays(GREY, ["dog", "ant"] * 5, classes=["dog", "cat", "ant"])
    assert data.train.labels.tolist() == [0, 2] * 5
    assert data.notes == ("no training image is of class 'cat'",)
    assert arrays(GREY, LABELS, classes=["x", "y"]).classes == ("x", "y")


def test_labels_from_one_are_remarked() -> None:
    assert "no training image is of class '0'" in arrays(GREY, [1, 2] * 5).notes


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (LABELS[:-1], None, "10 images and 9 labels"),
        ([-1, 0] * 5, None, "label -1, outside"),
        ([0, 2] * 5, ["x", "y"], r"label 2, outside 0 \.\.\. 1"),
        (["dog", "elk"] * 5, ["dog", "ant"], "label 'elk', which is none of the classes dog, ant"),
        (np.eye(10), None, r"but found float64 \(10, 10\)"),
        (torch.rand(10), None, r"but found float32 \(10,\)"),
        (np.zeros((10, 1), np.int64), None, r"but found int64 \(10, 1\)"),
        ([True, False] * 5, None, "bool"),
        (LABELS, ["x", "x"], "different names"),
    ],
)
def test_labels_that_cannot_be_taken_are_refused(labels: Any, classes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        arrays(GREY, labels, classes=classes)


def test_val_and_test_are_taken_as_pairs() -> None:
    data = arrays(GREY, LABELS, val=(GREY[:4] // 2, [0, 1, 2, 0]), test=(GREY[:2] // 3, [0, 0]))
    assert repr(data) == "Data(arrays: 10 train, 4 val, 2 test; 3 classes 0, 1, 2; 1x6x7)"
    with pytest.raises(DataError, match="val has images of 1x5x7, train of 1x6x7"):
        arrays(GREY, LABELS, val=(GREY[:, 1:], LABELS))
    with pytest.raises(DataError, match="some labels are names and some are numbers"):
        arrays(GREY, LABELS, val=(GREY, ["a"] * 10))


def test_held_out_images_are_drawn_from_train() -> None:
    data = arrays(GREY, LABELS, held_out=0.4)
    assert data.val is not None
    assert data.val.counts(2) == (2, 2)
    assert sorted(data.train.indices.tolist() + data.val.indices.tolist()) == list(range(10))
    with pytest.raises(DataError, match="val and held_out were both given"):
        arrays(GREY, LABELS, val=(GREY, LABELS), held_out=2)


def test_digits_are_1797_greys_spread_over_all_of_uint8() -> None:
    pytest.importorskip("sklearn")
    data = digits()
    assert isinstance(data, Data)
    assert data.val is not None
    assert (len(data.train), len(data.val)) == (1438, 359)
    assert data.train.shape == (1438, 1, 8, 8)
    assert data.train.images.unique().tolist() == [int(value * 255 / 16 + 0.5) for value in range(17)]
    assert max(data.val.counts(10)) - min(data.val.counts(10)) <= 2
    assert data.notes == ()
    assert digits(held_out=0).val is None
    assert isinstance(digits(seed=1).val, Split)
    assert digits().train.fingerprint() == data.train.fingerprint() != digits(seed=1).train.fingerprint()


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"digits needs scikit-learn: pip install 'budgetnet\[demo\]'"):
        digits()
