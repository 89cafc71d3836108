"""Arrays and digits: every layout that is taken, and the way out for those that are not."""

import sys
from typing import Any

import numpy as np
import pytest
import torch

from budgetnet.data import Data, DataError, Split, arrays, balanced, digits, stratified

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


class Unsure:
    """As pandas' NA: what comes of comparing it is neither true nor false."""

    def __ne__(self, other: object) -> "Unsure":  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (GREY.astype(np.float32), r"lie in \[0, 1\], but found 0 \.\.\. 255: .*make them uint8"),
        (GREY / 255 - 0.5, "undo their normalisation"),
        (GREY * 1000.0, "scale them"),
        (np.full((10, 6, 7), np.nan), r"found nan \.\.\. nan: drop or mend the images with NaN"),
        (np.full((10, 6, 7), np.inf), "drop or mend the images with NaN or infinity"),
        (GREY / 255 * 1.05, r"1\.05: give images.clip\(0, 1\)"),
        (GREY / 255 * 1.5, "scale them"),
        (GREY.astype(np.int64), r"found int64 \(10, 6, 7\): give images.astype\('uint8'\)$"),
        (GREY.astype(np.uint16), r"found uint16 .*: give images.astype\('uint8'\)"),
        (GREY.astype(np.uint16) * 257, r"bring .* 65,\d+ to 0 \.\.\. 255 first"),
        (GREY.astype(np.int16) - 128, r"bring -128 \.\.\. 127 to 0"),
        (GREY > 100, r"found bool .*: give images.astype\('uint8'\) \* 255"),
        (torch.from_numpy(GREY).int(), "found int32"),
        (torch.from_numpy(GREY) > 100, r"found bool .*: give images.to\(torch.uint8\) \* 255"),
        (torch.from_numpy(GREY / 255).to(torch.float8_e4m3fn), "found float8_e4m3fn .*convert them"),
        (GREY.astype(np.longdouble), "found .*convert them"),
        (GREY.astype(complex), "found complex128 .*convert them"),
        (torch.from_numpy(GREY).to_sparse(), "a plain tensor, not one of layout sparse_coo: .*to_dense"),
        (torch.empty(10, 6, 7, dtype=torch.uint8, device="meta"), "not a meta tensor, which holds no values"),
        (np.ma.masked_less(GREY, 9), "some are masked"),
        (GREY[0], r"found uint8 \(6, 7\)"),
        (GREY[:0], "train has no images: give some"),
        (RNG.integers(256, size=(10, 6, 7, 4), dtype=np.uint8), "channels=, or drop the other channels"),
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


def test_columns_of_tables_and_strings_of_every_kind_are_names() -> None:
    class Column:
        """What pandas' Series and Categorical have in common for NumPy."""

        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return np.array(["dog", "ant"] * 5, dtype=object)

    strings = getattr(np.dtypes, "StringDType", None)
    given = [
        Column(),
        np.array([b"dog", b"ant"] * 5),
        np.array(["dog", "ant"] * 5, dtype=strings() if strings else object),
        ("dog", "ant") * 5,
    ]
    for labels in given:
        data = arrays(GREY, labels)  # type: ignore[arg-type]
        assert (data.classes, data.train.labels.tolist()) == (("ant", "dog"), [1, 0] * 5)
    for numbers in (
        np.array(LABELS, dtype=object),
        np.array(LABELS, np.uint8),
        [torch.tensor(k) for k in LABELS],
    ):
        assert arrays(GREY, numbers).train.labels.tolist() == LABELS  # type: ignore[arg-type]
    sparse = arrays(GREY, [900, 901] * 5)
    assert len(sparse.classes) == 902
    assert sparse.notes[0].startswith("no training image is of class '0', '1', '2' and 897 more")


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
        (torch.eye(10), None, r"of one-hot rows give labels.argmax\(dim=1\)"),
        (torch.tensor([True, False] * 5), None, r"found bool .*: give labels.long\(\)"),
        ([Unsure(), "ant"] * 5, None, "image 0 has none"),
        (np.eye(10), None, r"but found float64 \(10, 10\): of one-hot rows give labels.argmax\(axis=1\)"),
        (torch.rand(10), None, r"but found float32 \(10,\)"),
        (torch.rand(10).bfloat16(), None, r"but found float32 \(10,\)"),
        ([0.0, 1.0] * 5, None, r"found float64 .*give labels.astype\(int\)"),
        ([0.0, float("nan")] * 5, None, "image 1 has none"),
        (["ant", None] * 5, None, "image 1 has none"),
        (np.zeros((10, 1), np.int64), None, r"but found int64 \(10, 1\): give labels.ravel\(\)"),
        ([True, False] * 5, None, r"bool .*: give labels.astype\(int\)"),
        ([[0, 1], [2]] * 5, None, "found list of mixed things"),
        ({0, 1}, None, "found object"),
        (7, None, r"found int64 \(\)"),
        (torch.tensor(LABELS).to_sparse(), None, "the labels of train should be a plain tensor"),
        (torch.empty(10, dtype=torch.int64, device="meta"), None, "a meta tensor, which holds no values"),
        (np.ma.masked_equal(LABELS, 1), None, "some are masked"),
        (np.array([b"\xff", b"a"] * 5), None, "found bytes: decode them"),
        (
            [0, 1, 2, 2**40] * 2 + [0, 1],
            None,
            r"these 4 reach 1,099,511,627,776: pass them as names, or np.unique",
        ),
        (np.array([0, 2**64 - 1] * 5, np.uint64), None, "these 2 reach 18,446,744,073,709,551,615"),
        ([0, 2**70] * 5, None, "pass them as names"),
        ([1000, 2000] * 5, None, "these 2 reach 2,000"),
        (LABELS, [1, 2], r"classes are names in order, .* but found \[1, 2\]"),
        (LABELS, "ab", "classes are names in order"),
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
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=r"digits needs scikit-learn: pip install 'budgetnet\[demo\]'"):
        digits()


def test_rounding_errors_outside_of_zero_and_one_are_none() -> None:
    floats = (GREY / 255).astype(np.float32)
    floats[0, 0, :2] = -1e-7, 1.0000002
    found = arrays(floats, LABELS).train.images[:, 0].numpy()
    assert found[0, 0, :2].tolist() == [0, 255]
    np.testing.assert_array_equal(found[1:], GREY[1:])


def test_a_missing_name_is_no_class_and_a_small_share_not_none() -> None:
    names: list[Any] = ["cat", "dog"] * 5
    for missing in (np.nan, None):
        with pytest.raises(DataError, match="image 1 has none, so drop it"):
            arrays(GREY, [names[0], missing, *names[2:]])
    with pytest.raises(DataError, match=r"0.01 of 10 images is none: ask for 0.1 or more"):
        arrays(GREY, LABELS, held_out=0.01)
    for seed in ("x", 1.5):
        with pytest.raises(DataError, match="seed should be a whole number"):
            arrays(GREY, LABELS, held_out=2, seed=seed)  # type: ignore[arg-type]


def test_pixels_that_are_nearly_black_are_remarked() -> None:
    masks = (GREY > 100).astype(np.uint8)
    note = "train is nearly black, with no pixel above 1 of 255: where 1 stands for white, multiply by 255"
    assert note in arrays(masks, LABELS).notes
    assert note in arrays(GREY / 255 / 255, LABELS).notes
    assert note.replace("train", "val") in arrays(GREY, LABELS, val=(masks, LABELS)).notes
    (note,) = arrays(GREY // 16, LABELS).notes
    assert note.endswith("with no pixel above 15 of 255: where 15 stands for white, multiply by 17")
    assert arrays(np.zeros_like(GREY), LABELS).notes == (
        "train is nearly black, with no pixel above 0 of 255",
    )
    for sound in (GREY, masks * 255, GREY / 255):
        assert not any("black" in note for note in arrays(sound, LABELS).notes)


def test_classes_of_which_nothing_is_held_out_are_named() -> None:
    data = arrays(GREY, [0] * 9 + [1], held_out=0.3)
    assert data.val is not None
    assert (data.train.counts(2), data.val.counts(2)) == ((6, 1), (3, 0))
    assert data.notes == ("1 class of train without an image in val or test (1): not measured there",)


def test_a_part_that_is_no_pair_is_refused() -> None:
    for part in (GREY, (GREY,), [GREY, LABELS, 1]):
        with pytest.raises(DataError, match=r"val should be a pair \(images, labels\)"):
            arrays(GREY, LABELS, val=part)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "labels", [LABELS, ["a", "b"] * 5, np.array(LABELS), torch.tensor(LABELS).to_sparse()]
)
def test_a_split_of_other_things_is_sent_to_arrays(labels: Any) -> None:
    with pytest.raises(DataError, match=r"labels are a dense tensor, .* budgetnet.arrays takes"):
        Split(torch.from_numpy(GREY)[:, None], labels, torch.arange(10))
    with pytest.raises(DataError, match="a split's images are a dense tensor, but found ndarray"):
        Split(GREY[:, None], torch.tensor(LABELS), torch.arange(10))  # type: ignore[arg-type]


def test_names_are_no_labels_to_draw_by() -> None:
    for draw in (stratified, balanced):
        with pytest.raises(DataError, match=r"labels that are numbers, .* np.unique"):
            draw(["ant", "bee"], 1)  # type: ignore[arg-type]
