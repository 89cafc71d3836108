"""Split and Data: what batches come out, what is counted, and what is refused."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from budgetnet.data import Data, DataError, Interleaved, Split
from budgetnet.data import disk as room
from budgetnet.data.data import remarked


def make(count: int = 12, classes: int = 3, size: int = 5, seed: int = 0, channels: int = 3) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, channels, size, size + 1), dtype=torch.uint8, generator=generator)
    return Split(
        images, torch.arange(count) % classes, torch.arange(count) * 10, tuple(map(str, range(count)))
    )


def test_tensor_list_slice_and_mask_pick_the_same_images() -> None:
    split = make()
    mask = torch.zeros(12, dtype=torch.bool)
    mask[[2, 5, 8]] = True
    for which in (torch.tensor([2, 5, 8]), [2, 5, 8], slice(2, 11, 3), mask, np.array([2, -7, 8])):
        images, labels = split[which]
        assert torch.equal(images, split.images[[2, 5, 8]])
        assert torch.equal(labels, split.labels[[2, 5, 8]])
        assert images.is_contiguous()


def test_a_lone_position_gives_one_image_and_iteration_ends() -> None:
    split = make()
    image, label = split[-1]
    assert image.shape == (3, 5, 6)
    assert int(label) == 11 % 3
    assert len(list(split)) == 12


def test_slices_backwards_and_of_nothing_work() -> None:
    split = make()
    assert torch.equal(split[::-1][0], split.images.flip(0))
    assert split[5:5][0].shape == (0, 3, 5, 6)
    assert split[[]][0].shape == (0, 3, 5, 6)


@pytest.mark.parametrize("which", [[12], [-13], [0, 99]])
def test_a_position_out_of_range_is_an_index_error(which: list[int]) -> None:
    with pytest.raises(IndexError, match="outside a split of 12 images"):
        make()[which]


def test_positions_that_are_no_whole_numbers_are_refused() -> None:
    with pytest.raises(IndexError, match="whole numbers"):
        make()[torch.tensor([0.5])]


def test_interleaved_images_are_the_same_in_channels_last() -> None:
    plain = make()
    copied = Interleaved(plain)
    assert len(copied) == len(plain)
    which: slice | Tensor
    for which in (slice(1, 3), torch.tensor([3, 1])):
        images, labels = copied[which]
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(images, plain[which][0])
        assert torch.equal(labels, plain[which][1])


def test_images_that_are_views_come_out_contiguous_and_right() -> None:
    plain = make()
    turned = Split(plain.images.transpose(2, 3).contiguous().transpose(2, 3), plain.labels, plain.indices)
    assert not turned.images.is_contiguous()
    images, _ = turned[[3, 1]]
    assert images.is_contiguous()
    assert torch.equal(images, plain.images[[3, 1]])
    assert turned.subset([3, 1]).images.is_contiguous()
    assert turned.fingerprint() == plain.fingerprint()
    assert turned.mean_std() == plain.mean_std()


def test_a_subset_keeps_publishers_indices_and_names_in_the_order_given() -> None:
    part = make().subset([7, 2])
    assert part.indices.tolist() == [70, 20]
    assert part.names == ("7", "2")
    assert torch.equal(part.images, make().images[[7, 2]])
    assert part.labels.tolist() == [1, 2]


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_deviation_are_those_of_all_pixels(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    split = make(count=50, channels=channels)
    values = split.images.double() / 255
    mean, std = split.mean_std()
    torch.testing.assert_close(torch.tensor(mean).double(), values.mean((0, 2, 3)), rtol=0, atol=1e-7)
    expected = values.std((0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(std, dtype=torch.float64), expected, rtol=0, atol=1e-12)
    monkeypatch.setattr(room, "CHUNK", 7 * split.images[0].numel())
    assert split.mean_std() == (mean, std)


def test_the_deviation_of_one_colour_is_exactly_zero() -> None:
    grey = Split(
        torch.full((1000, 1, 9, 9), 77, dtype=torch.uint8), torch.zeros(1000).long(), torch.arange(1000)
    )
    assert grey.mean_std() == ((77 / 255,), (0.0,))


def test_statistics_are_of_this_split_alone() -> None:
    split = make()
    assert split.mean_std() != split.subset(range(6)).mean_std()
    with pytest.raises(DataError, match="empty"):
        split.subset([]).mean_std()


def test_the_fingerprint_tells_pixels_labels_and_shape_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    split = make()
    known = split.fingerprint()
    changed = split.images.clone()
    changed[-1, -1, -1, -1] ^= 1
    relabelled = split.labels.clone()
    relabelled[0] = 2
    others = (
        Split(changed, split.labels, split.indices),
        Split(split.images, relabelled, split.indices),
        Split(split.images.view(12, 3, 6, 5), split.labels, split.indices),
    )
    assert len({known, *(other.fingerprint() for other in others)}) == 4
    assert Split(split.images.clone(), split.labels, split.indices + 1).fingerprint() == known
    monkeypatch.setattr(room, "CHUNK", 1)
    assert split.fingerprint() == known


def test_counts_leave_out_what_has_no_label() -> None:
    labels = torch.tensor([0, 2, 2, -1])
    assert Split(make(4).images, labels, torch.arange(4)).counts(4) == (1, 0, 2, 0)


def test_moving_to_where_it_is_copies_nothing() -> None:
    split = make()
    assert split.to("cpu") is split
    assert split.to(torch.device("cpu")) is split


def test_moving_to_another_device_moves_images_and_labels() -> None:
    moved = make().to("meta")
    assert moved.device.type == moved.images.device.type == "meta"
    assert moved.indices.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("fraction", [0.5, 0.0])
def test_batches_on_cuda_are_the_same_from_the_device_and_from_the_host(fraction: float) -> None:
    split = make()
    moved = split.to("cuda", fraction=fraction)
    assert moved.images.is_cuda == (fraction > 0)
    assert moved.to("cuda") is moved
    images, labels = moved[torch.tensor([3, -1])]
    assert images.is_cuda
    assert labels.is_cuda
    assert torch.equal(images.cpu(), split.images[[3, -1]])
    assert labels.tolist() == split.labels[[3, -1]].tolist()
    assert moved.fingerprint() == split.fingerprint()
    assert moved.mean_std() == split.mean_std()


def test_a_split_refuses_what_does_not_fit_together() -> None:
    images, labels = make().images, make().labels
    with pytest.raises(DataError, match="uint8"):
        Split(images.float(), labels, labels)
    with pytest.raises(DataError, match="uint8"):
        Split(images[0], labels, labels)
    with pytest.raises(DataError, match=r"int64 labels, but found int32 \(12,\)"):
        Split(images, labels.int(), labels)
    with pytest.raises(DataError, match="as many int64 indices"):
        Split(images, labels, labels[:3])
    with pytest.raises(DataError, match="as many names, but found 1"):
        Split(images, labels, labels, ("a",))


CLASSES = ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("val", "message"),
    [
        (make(size=4), "val has images of 3x4x5, train of 3x5x6"),
        (make(channels=1), "val has images of 1x5x6"),
        (make(classes=4), "val has a label 3, outside 0 ... 2"),
        (Split(make(1).images, torch.tensor([-1]), torch.tensor([0])), "val has a label -1"),
        (make().subset([]), "val holds no images"),
    ],
)
def test_data_refuses_parts_that_differ(val: Split, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Data(make(), val, None, CLASSES, "x")


def test_data_refuses_a_class_named_twice() -> None:
    with pytest.raises(DataError, match="different names"):
        Data(make(), None, None, ("a", "b", "a"), "x")


def test_unlabelled_images_need_no_label() -> None:
    rest = Split(make(4).images, torch.full((4,), -1), torch.arange(4))
    kept = Data(make(), None, None, CLASSES, "x", rest).unlabelled
    assert kept is not None
    assert kept.images is rest.images


def test_the_repr_says_sizes_classes_and_resolution() -> None:
    data = Data(make(1200), make(30, seed=1), None, (*CLASSES, "dog"), "zoo")
    assert repr(data) == "Data(zoo: 1,200 train, 30 val; 4 classes ant, bee, cat, ...; 3x5x6)"
    assert repr(data.train) == "Split(1,200 images 3x5x6 for cpu)"


def copied(split: Split, images: Tensor) -> Split:
    return Split(
        torch.cat([split.images, images]),
        torch.zeros(len(split) + len(images)).long(),
        torch.arange(len(split) + len(images)),
    )


def test_duplicates_are_found_across_splits_and_only_there() -> None:
    train = copied(make(), make().images[3:4])
    val = copied(make(5, seed=1), train.images[[3, 7]])
    test = copied(make(4, seed=2), torch.stack([val.images[0], train.images[7]]))
    data = Data(train, val, test, CLASSES, "x")
    assert set(data.duplicates()) == {
        ("train", 3, "val", 5),
        ("train", 7, "val", 6),
        ("val", 0, "test", 4),
        ("train", 7, "test", 5),
        ("val", 6, "test", 5),
    }
    notes = remarked(data).notes
    assert notes[:2] == (
        "2 images occur in both train and val, byte for byte (for one train[3] = val[5]); what is learnt by "
        "heart counts as recognised there",
        "2 images occur in both val and test, byte for byte (for one val[0] = test[4])",
    )
    assert notes[:3] == data.overlaps()
    assert len(notes) == 4


def test_an_image_that_differs_in_one_bit_is_no_duplicate() -> None:
    almost = make().images[:1].clone()
    almost[0, 0, 0, 0] ^= 1
    assert Data(make(), copied(make(3, seed=1), almost), None, CLASSES, "x").duplicates() == ()


def test_classes_without_a_training_image_are_remarked() -> None:
    (note,) = remarked(Data(make(), None, None, (*CLASSES, "dog", "elk"), "x")).notes
    assert note == "no training image is of class 'dog', 'elk'"


def test_importing_the_room_imports_neither_torchvision_nor_scikit_learn_nor_pillow() -> None:
    heavy = "('torchvision', 'sklearn', 'PIL')"
    code = f"import budgetnet.data, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_deviation_of_two_values_is_exact() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    mean, std = Split(images, torch.zeros(2).long(), torch.arange(2)).mean_std()
    assert (mean, std) == ((0.5,), (0.5,))
    assert math.isfinite(std[0])
