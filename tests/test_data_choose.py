"""Drawing and splitting: exact shares, the same draw everywhere, nothing in two parts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetnet.data import DataError, HeldOut, Split, balanced, left_over, split, stratified

LABELS = [0] * 50 + [1] * 30 + [2] * 20


def make(labels: list[int], indices: list[int] | None = None) -> Split:
    images = torch.arange(len(labels)).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return Split(images, torch.tensor(labels), torch.tensor(indices or range(len(labels))))


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.data())
def test_every_class_gets_its_share_to_within_one(labels: list[int], data: st.DataObject) -> None:
    n = data.draw(st.integers(0, len(labels)))
    drawn = stratified(labels, n, seed=data.draw(st.integers(0, 3)))
    assert len(drawn) == n
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    for label in set(labels):
        share = n * labels.count(label) / len(labels)
        taken = sum(labels[position] == label for position in drawn.tolist())
        assert abs(taken - share) < 1


def test_the_largest_remainders_get_what_is_left() -> None:
    # 7 of 100: shares 3.5, 2.1, 1.4; 6 are whole, and the seventh goes to the first class.
    drawn = torch.tensor(LABELS)[stratified(LABELS, 7)]
    assert drawn.bincount().tolist() == [4, 2, 1]


def test_a_fraction_is_a_number_rounded() -> None:
    assert torch.equal(stratified(LABELS, 0.2), stratified(LABELS, 20))


def test_a_draw_is_the_same_on_every_machine() -> None:
    drawn = [6, 7, 17, 39, 44, 51, 68, 77, 81, 95]
    assert stratified(LABELS, 10).tolist() == drawn
    assert stratified(LABELS, 10, seed=1).tolist() != drawn


def test_a_smaller_balanced_draw_is_part_of_a_larger_one() -> None:
    few, many = balanced(LABELS, 4), balanced(LABELS, 9)
    assert set(few.tolist()) < set(many.tolist())
    assert torch.tensor(LABELS)[many].bincount().tolist() == [9, 9, 9]


def test_a_class_with_too_few_is_named() -> None:
    with pytest.raises(DataError, match=r"class 'cat' has 3 images to choose from, 5 asked for"):
        balanced([0] * 9 + [1] * 3, 5, classes=("ant", "cat"))
    with pytest.raises(DataError, match=r"class 'cat' has 0 images"):
        balanced([0] * 9, 5, classes=("ant", "cat"))


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_per_class_is_a_number_from_one(n: int) -> None:
    with pytest.raises(DataError, match="per_class is a number of images from 1"):
        balanced(LABELS, n)


@pytest.mark.parametrize("held_out", [20, 0.2, [5, 3, 99], torch.tensor([5, 3, 99]), np.array([5, 3, 99])])
def test_what_is_held_out_and_what_stays_make_the_whole(held_out: HeldOut) -> None:
    whole = make(LABELS)
    train, val = split(whole, held_out)
    assert val is not None
    assert sorted(train.indices.tolist() + val.indices.tolist()) == list(range(100))
    if not isinstance(held_out, int | float):
        assert val.indices.tolist() == [3, 5, 99]
    assert torch.equal(val.images[:, 0, 0, 0].long(), val.indices)
    assert torch.equal(val.labels, whole.labels[val.indices])


def test_per_class_and_held_out_have_nothing_in_common() -> None:
    train, val = split(make(LABELS), 0.5, per_class=10)
    assert val is not None
    assert not set(train.indices.tolist()) & set(val.indices.tolist())
    assert train.counts(3) == (10, 10, 10)
    assert val.counts(3) == (25, 15, 10)


def test_per_class_counts_what_is_left_after_holding_out() -> None:
    with pytest.raises(DataError, match=r"class 'c' has 10 images to choose from, 11 asked for"):
        split(make(LABELS), 0.5, per_class=11, classes=("a", "b", "c"))


@pytest.mark.parametrize("held_out", [None, 0, 0.0, []])
def test_holding_out_nothing_gives_the_whole_and_none(held_out: HeldOut) -> None:
    whole = make(LABELS)
    assert split(whole, held_out) == (whole, None)


def test_indices_are_the_publishers_not_the_rows() -> None:
    train, val = split(make([0, 0, 0, 0], [40, 10, 30, 20]), [20, 40])
    assert val is not None
    assert val.indices.tolist() == [40, 20]
    assert train.indices.tolist() == [10, 30]


def test_a_file_of_indices_is_read(tmp_path: Path) -> None:
    path = tmp_path / "held_out.txt"
    path.write_text("7\n3\r\n\n 99 \n")
    for given_path in (path, str(path)):
        _, val = split(make(LABELS), given_path)
        assert val is not None
        assert val.indices.tolist() == [3, 7, 99]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7\n-3\n", "line 2 of .* should be an index, but found '-3'"),
        ("7\nseven\n", "line 2 of .* 'seven'"),
        ("7\n7\n", "index 7 of .* is given twice"),
        ("7\n100\n", r"index 100 of .* is not among the 100 images \(indices 0 \.\.\. 99\)"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "held_out.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        split(make(LABELS), tmp_path / "held_out.txt")


def test_a_file_that_is_not_there_or_no_text_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        split(make(LABELS), tmp_path / "nothing.txt")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(DataError, match="not a text file"):
        split(make(LABELS), tmp_path / "image.png")


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (101, "there are 100 images, 101 asked for"),
        (-1, "there are 100 images, -1 asked for"),
        (1.0, r"a fraction lies in \[0, 1\)"),
        (float("nan"), r"a fraction lies in \[0, 1\)"),
        (100, "leaves none of the 100 images to train on"),
        (True, "a number of images or a fraction"),
        ([0.5], r"row of whole numbers, but found float32 \(1,\)"),
        ([[1]], "row of whole numbers"),
        ({"a": 1}, "a number, a fraction, a file or indices"),
        ([-1], "index -1 of held_out is not among"),
    ],
)
def test_what_cannot_be_held_out_is_refused(held_out: HeldOut, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(make(LABELS), held_out)


def test_holding_out_the_last_of_a_class_is_refused() -> None:
    with pytest.raises(DataError, match="leaves class 'b' none of its 2 to train on"):
        split(make([0, 0, 1, 1]), [2, 3], classes=("a", "b"))


def test_unlabelled_images_cannot_be_drawn_by_class() -> None:
    with pytest.raises(DataError, match="unlabelled"):
        stratified([-1, 0], 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_left_over_is_in_no_other_part_and_has_no_labels(seed: int) -> None:
    whole = make(LABELS, list(range(200, 100, -1)))
    train, val = split(whole, 10, seed, per_class=5)
    rest = left_over(whole, train, val)
    assert val is not None
    parts = (train, val, rest)
    assert sorted(i for part in parts for i in part.indices.tolist()) == list(range(101, 201))
    assert (len(train), len(val), len(rest)) == (15, 10, 75)
    assert rest.labels.unique().tolist() == [-1]
    assert torch.equal(rest.images[:, 0, 0, 0].long(), 200 - rest.indices)
    assert whole.labels.min() == 0


def test_a_split_that_leaves_nothing_over_is_told_to_take_fewer() -> None:
    whole = make(LABELS)
    train, val = split(whole, 10)
    with pytest.raises(DataError, match="per_class leaves over, and all 100 are in use"):
        left_over(whole, train, val)
    assert len(left_over(whole, val)) == 90
    assert len(left_over(whole, None)) == 100


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.floats(0, 0.99))
def test_no_class_loses_its_last_image_where_others_can_give_one(labels: list[int], share: float) -> None:
    whole = make(labels)
    number = round(share * len(labels))
    usual = stratified(labels, number)
    left = set(torch.tensor(labels)[~torch.isin(torch.arange(len(labels)), usual)].tolist())
    if share and not number:
        with pytest.raises(DataError, match="is none: ask for"):
            split(whole, share)
        return
    if number > len(labels) - len(set(labels)):
        with pytest.raises(DataError, match="hold out fewer"):
            split(whole, share)
        return
    train, val = split(whole, share)
    assert len(val or ()) == number
    assert set(train.labels.tolist()) == set(labels)
    if left == set(labels):
        # What could be drawn before is drawn as before.
        assert (torch.zeros(0) if val is None else val.indices).tolist() == usual.tolist()


def test_single_images_stay_and_the_larger_classes_give_more() -> None:
    train, val = split(make([0] * 9 + [1, 2, 3, 4, 5, 6]), 5)
    assert val is not None
    assert val.labels.tolist() == [0] * 5
    assert train.counts(7) == (4, 1, 1, 1, 1, 1, 1)
    many = torch.arange(2_000).repeat_interleave(2).tolist()
    _, val = split(make([*range(2_000), *([0] * 3_000)]), 1_000)
    assert val is not None
    assert set(val.labels.tolist()) == {0}
    assert split(make(many), 2_000)[0].counts(2_000) == (1,) * 2_000


@pytest.mark.parametrize("highest", [2**20, 2**40, 2**62])
def test_identities_are_no_classes_and_take_no_memory(highest: int) -> None:
    for draw in (stratified, balanced):
        with pytest.raises(DataError, match=f"count classes from 0, but found {highest:,}"):
            draw([0, highest], 1)
    with pytest.raises(DataError, match="count classes from 0"):
        split(make([0, 0, highest, highest]), 1)
