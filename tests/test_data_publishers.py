"""STL-10, CIFAR-10 and Tiny-ImageNet as their publishers lay them out, on small files of the same layout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from budgetnet.data import DataError, cifar10, folder, stl10, tiny_imagenet


def write_stl10(folder: Path, part: str, count: int, seed: int = 0) -> np.ndarray:
    """Write a part as published and return its images (N, C, H, W)."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(seed).integers(256, size=(count, 3, 96, 96), dtype=np.uint8)
    images.transpose(0, 1, 3, 2).tofile(folder / f"{part}_X.bin")
    if part != "unlabeled":
        (np.arange(count) % 10 + 1).astype(np.uint8).tofile(folder / f"{part}_y.bin")
    return images


def write_cifar10(folder: Path, count: int = 20) -> np.ndarray:
    """Write all six batches as published and return the training images (N, C, H, W)."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    images = generator.integers(256, size=(6, count, 3, 32, 32), dtype=np.uint8)
    for name, batch in zip(names, images):
        rows = np.empty((count, 3073), np.uint8)
        rows[:, 0] = np.arange(count) % 10
        rows[:, 1:] = batch.reshape(count, -1)
        rows.tofile(folder / name)
    return images[:5].reshape(-1, 3, 32, 32)


NUMBERS = ("n02113186", "n01443537", "n02963159", "n09999999")
WORDS = """n00001740\tentity
n02113186\tCardigan, Cardigan Welsh corgi
n01443537\tgoldfish, Carassius auratus
n02963159\tcardigan
"""


def write_tiny_imagenet(folder: Path, *, train: int = 6, val: int = 2) -> None:
    """Write a set of four classes as the publisher lays out his 200: image number k has the green value k."""
    generator = np.random.default_rng(0)

    def photo(path: Path, green: int, mode: str = "RGB") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[..., 1] = 10 * green
        pixels[32:, :, 0] = generator.integers(256)
        Image.fromarray(pixels).convert(mode).save(path, "JPEG", quality=95)

    lines, number = [], 0
    for label, wnid in enumerate(NUMBERS):
        for k in range(train):
            mode = "L" if k == 0 else "RGB"
            photo(folder / "train" / wnid / "images" / f"{wnid}_{k}.JPEG", label, mode)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
        for _ in range(val):
            name = f"val_{(number * 5) % (val * len(NUMBERS))}.JPEG"
            photo(folder / "val" / "images" / name, label)
            lines.append(f"{name}\t{wnid}\t0\t32\t44\t62\n")
            number += 1
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(NUMBERS))
    (folder / "words.txt").write_text(WORDS)
    photo(folder / "test" / "images" / "test_0.JPEG", 0)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a small Tiny-ImageNet in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BUDGETNET_DATA", raising=False)
    write_tiny_imagenet(tmp_path / "data" / "tiny-imagenet-200")
    return tmp_path / "data"


def test_stl10_is_read_upright_with_labels_from_zero(tmp_path: Path) -> None:
    images = write_stl10(tmp_path / "stl10_binary", "train", 40)
    data = stl10(tmp_path, held_out=10)
    assert data.val is not None
    assert data.test is None
    assert data.unlabelled is None
    assert data.classes[0] == "airplane"
    assert data.val.counts(10) == (1,) * 10
    for split in (data.train, data.val):
        np.testing.assert_array_equal(split.images.numpy(), images[split.indices.numpy()])
        assert torch.equal(split.labels, split.indices % 10)


def test_stl10_agrees_with_torchvision(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    write_stl10(tmp_path / "stl10_binary", "test", 30)
    folder = tmp_path / "stl10_binary"
    images, labels = datasets.STL10._STL10__loadfile(
        type("Set", (), {"root": str(tmp_path), "base_folder": folder.name})(), "test_X.bin", "test_y.bin"
    )
    write_stl10(folder, "train", 20, seed=1)
    data = stl10(tmp_path, held_out=0)
    assert data.test is not None
    np.testing.assert_array_equal(data.test.images.numpy(), images)
    np.testing.assert_array_equal(data.test.labels.numpy(), labels)


def test_stl10_is_found_by_root_by_folder_and_by_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stl10(tmp_path / "stl10_binary", "train", 20)
    known = stl10(tmp_path, held_out=0).train.fingerprint()
    assert stl10(str(tmp_path / "stl10_binary"), held_out=0).train.fingerprint() == known
    (tmp_path / "stl10_binary").rename(tmp_path / "renamed")
    assert stl10(tmp_path / "renamed", held_out=0).train.fingerprint() == known
    monkeypatch.setenv("BUDGETNET_DATA", str(tmp_path / "renamed"))
    assert stl10(held_out=0).train.fingerprint() == known
    monkeypatch.delenv("BUDGETNET_DATA")
    (tmp_path / "renamed").rename(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert stl10(held_out=0).train.fingerprint() == known


def test_stl10_takes_a_list_of_indices_and_per_class(tmp_path: Path) -> None:
    write_stl10(tmp_path / "stl10_binary", "train", 60)
    (tmp_path / "held_out.txt").write_text("11\n0\n59\n")
    data = stl10(tmp_path, held_out=tmp_path / "held_out.txt", per_class=2)
    assert data.val is not None
    assert data.val.indices.tolist() == [0, 11, 59]
    assert data.train.counts(10) == (2,) * 10
    assert not {0, 11, 59} & set(data.train.indices.tolist())
    with pytest.raises(DataError, match="class 'airplane' has 5 images to choose from, 6 asked for"):
        stl10(tmp_path, held_out=tmp_path / "held_out.txt", per_class=6)


def test_the_seed_decides_who_is_held_out(tmp_path: Path) -> None:
    write_stl10(tmp_path / "stl10_binary", "train", 60)
    first, again, other = (stl10(tmp_path, held_out=20, seed=seed).val for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_unlabelled_images_are_left_on_disk_and_read_upright(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUDGETNET_MEMORY", "0")
    write_stl10(tmp_path / "stl10_binary", "train", 20)
    images = write_stl10(tmp_path / "stl10_binary", "unlabeled", 12, seed=1)
    assert stl10(tmp_path, held_out=0).unlabelled is None
    rest = stl10(tmp_path, held_out=0, unlabelled=True).unlabelled
    assert rest is not None
    np.testing.assert_array_equal(rest[[3, 11]][0].numpy(), images[[3, 11]])
    assert rest.labels.unique().tolist() == [-1]
    # On disk: what changes in the file shows.
    with (tmp_path / "stl10_binary" / "unlabeled_X.bin").open("r+b") as file:
        file.seek(7 * 27_648)
        file.write(bytes(27_648))
    assert int(rest[[7]][0].sum()) == 0


def test_a_published_file_is_never_written(tmp_path: Path) -> None:
    write_stl10(tmp_path / "stl10_binary", "train", 20)
    write_stl10(tmp_path / "stl10_binary", "unlabeled", 5)
    before = (tmp_path / "stl10_binary" / "unlabeled_X.bin").read_bytes()
    rest = stl10(tmp_path, held_out=0, unlabelled=True).unlabelled
    assert rest is not None
    rest.images.zero_()
    assert (tmp_path / "stl10_binary" / "unlabeled_X.bin").read_bytes() == before


def test_a_stl10_file_of_the_wrong_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    folder = tmp_path / "stl10_binary"
    write_stl10(folder, "train", 20)
    with (folder / "train_X.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"train_X\.bin should hold 552,960 bytes .* but holds 552,961"):
        stl10(tmp_path)
    (folder / "train_X.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"train_X\.bin should hold 552,960 bytes .* but holds 0"):
        stl10(tmp_path)


@pytest.mark.parametrize("label", [0, 11])
def test_a_label_outside_one_to_ten_is_refused(tmp_path: Path, label: int) -> None:
    folder = tmp_path / "stl10_binary"
    write_stl10(folder, "train", 20)
    labels = bytearray((folder / "train_y.bin").read_bytes())
    labels[4] = label
    (folder / "train_y.bin").write_bytes(labels)
    with pytest.raises(DataError, match=f"labels 1 ... 10, but holds {label} for image 4"):
        stl10(tmp_path)


def test_images_without_their_labels_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "stl10_binary"
    write_stl10(folder, "train", 20)
    write_stl10(folder, "test", 10)
    (folder / "test_y.bin").unlink()
    with pytest.raises(DataError, match=r"test_X\.bin lies in .* without its test_y\.bin"):
        stl10(tmp_path, held_out=0)


def test_an_image_in_train_and_test_is_noted(tmp_path: Path) -> None:
    folder = tmp_path / "stl10_binary"
    write_stl10(folder, "train", 20)
    write_stl10(folder, "test", 10)
    notes = stl10(tmp_path, held_out=0).notes
    assert any(note.startswith("10 images occur in both train and test") for note in notes)
    assert "train_X.bin holds 20 images, the published one 5,000" in notes


def test_cifar10_is_read_in_the_publishers_order(tmp_path: Path) -> None:
    images = write_cifar10(tmp_path / "cifar-10-batches-bin")
    data = cifar10(tmp_path, held_out=0.2, per_class=4)
    assert data.val is not None
    assert data.test is not None
    assert (len(data.val), len(data.train), len(data.test)) == (20, 40, 20)
    assert data.classes[:2] == ("airplane", "automobile")
    for split in (data.train, data.val):
        np.testing.assert_array_equal(split.images.numpy(), images[split.indices.numpy()])
        assert torch.equal(split.labels, split.indices % 10)
    assert data.notes[0] == "data_batch_1 ... 5.bin hold 100 images, the published 50,000"


def test_cifar10_without_its_test_batch_has_no_test(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    assert cifar10(tmp_path / "cifar-10-batches-bin", held_out=0).test is None


def test_a_cut_cifar10_batch_is_named(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_3\.bin should hold a multiple of 3,073 bytes .*61,459"):
        cifar10(tmp_path)


def test_a_cifar10_label_above_nine_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(DataError, match=r"test_batch\.bin should hold labels 0 \.\.\. 9, but holds 10"):
        cifar10(tmp_path, held_out=0)


def test_missing_data_without_a_download_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refusal:
        stl10(tmp_path / "nowhere", download=False)
    sentence = str(refusal.value)
    assert "train_X.bin is not there" in sentence
    assert "BUDGETNET_DATA" in sentence
    url = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
    assert f"put stl10_binary.tar.gz from {url} into {tmp_path}" in sentence
    with pytest.raises(DataError, match=r"data_batch_1\.bin is not there.*cifar-10-binary\.tar\.gz"):
        cifar10(tmp_path, download=False)
    assert list(tmp_path.iterdir()) == []


def test_cifar10_keeps_what_per_class_leaves_over_without_labels(tmp_path: Path) -> None:
    images = write_cifar10(tmp_path / "cifar-10-batches-bin")
    data = cifar10(tmp_path, held_out=20, per_class=3, unlabelled=True)
    assert data.val is not None
    assert data.unlabelled is not None
    assert data.val.counts(10) == (2,) * 10
    assert data.train.counts(10) == (3,) * 10
    assert data.unlabelled.labels.tolist() == [-1] * 50
    parts = (data.train, data.val, data.unlabelled)
    assert sorted(i for part in parts for i in part.indices.tolist()) == list(range(100))
    np.testing.assert_array_equal(data.unlabelled.images.numpy(), images[data.unlabelled.indices.numpy()])
    again = cifar10(tmp_path, held_out=20, per_class=3, unlabelled=True).unlabelled
    assert again is not None
    assert again.fingerprint() == data.unlabelled.fingerprint()
    assert cifar10(tmp_path, held_out=20, per_class=3).unlabelled is None
    with pytest.raises(DataError, match="all 100 are in use"):
        cifar10(tmp_path, held_out=20, unlabelled=True)


def test_the_seed_chooses_both_the_labelled_and_the_unlabelled(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    first, other = (
        cifar10(tmp_path, held_out=20, per_class=3, seed=s, unlabelled=True).unlabelled for s in (0, 1)
    )
    assert first is not None
    assert other is not None
    assert first.indices.tolist() != other.indices.tolist()


def test_a_folder_keeps_what_per_class_leaves_over_too(tiny: Path) -> None:
    train = tiny / "tiny-imagenet-200" / "train"
    data = folder(train, size=16, held_out=4, per_class=2, unlabelled=True)
    assert data.val is not None
    assert data.unlabelled is not None
    assert (len(data.train), len(data.val), len(data.unlabelled)) == (8, 4, 12)
    names = [set(part.names or ()) for part in (data.train, data.val, data.unlabelled)]
    assert len(set.union(*names)) == 24


def test_tiny_imagenets_official_validation_images_are_val(tiny: Path) -> None:
    data = tiny_imagenet(tiny)
    assert data.val is not None
    assert data.test is None
    assert data.train.images.shape == (24, 3, 64, 64)
    assert data.train.counts(4) == (6,) * 4
    assert data.val.counts(4) == (2,) * 4
    # Labels follow the numbers in order, and the annotations, not the names of the files.
    assert data.classes == (
        "goldfish", "Cardigan (n02113186)", "cardigan (n02963159)", "n09999999"
    )  # fmt: skip
    for split in (data.train, data.val):
        green = split.images[:, 1, :28].float().mean((1, 2)) / 10
        colour = split.images[:, 1].ne(split.images[:, 0]).flatten(1).any(1)
        named = torch.tensor([NUMBERS.index(sorted(NUMBERS)[k]) for k in split.labels.tolist()])
        assert torch.equal(green[colour].round().long(), named[colour])
    grey = [
        name
        for name, image in zip(data.train.names or (), data.train.images)
        if len(image.unique(dim=0)) == 1
    ]
    assert sum(name.endswith("_0.JPEG") for name in grey) == 4
    assert data.notes == (
        "24 training and 8 official validation images of 4 classes, the published set has 100,000 and "
        "10,000 of 200",
    )
    assert data.name == "tiny_imagenet"


@pytest.mark.parametrize("held_out", [8, 1 / 3])
def test_with_held_out_the_official_validation_images_are_the_test(tiny: Path, held_out: int | float) -> None:
    official = tiny_imagenet(tiny).val
    data = tiny_imagenet(tiny, held_out=held_out, per_class=3, seed=1)
    assert official is not None
    assert data.val is not None
    assert data.test is not None
    assert data.test.fingerprint() == official.fingerprint()
    assert data.val.counts(4) == (2,) * 4
    assert data.train.counts(4) == (3,) * 4
    assert not set(data.train.indices.tolist()) & set(data.val.indices.tolist())
    assert tiny_imagenet(tiny, held_out=0).val is None


def test_a_smaller_tiny_imagenet_in_class_folders_is_read_by_its_own_name(tiny: Path) -> None:
    whole, small = tiny / "tiny-imagenet-200", tiny / "tiny-imagenet-2"
    for part, count in (("train", 3), ("val", 2)):
        for wnid in NUMBERS[:2]:
            (small / part / wnid).mkdir(parents=True)
            for k in range(count):
                photo = whole / "train" / wnid / "images" / f"{wnid}_{k + 2}.JPEG"
                (small / part / wnid / f"{part}_{k}.JPEG").write_bytes(photo.read_bytes())
    (small / "classes.txt").write_text("n01443537\tgoldfish, Carassius auratus\n")
    data = tiny_imagenet(small)
    assert data.classes == ("goldfish", "n02113186")
    assert (len(data.train), len(data.val or ())) == (6, 4)
    assert tiny_imagenet(whole).classes == tiny_imagenet(tiny).classes


def test_tiny_imagenet_without_its_validation_images_is_refused(tiny: Path) -> None:
    (tiny / "tiny-imagenet-200" / "val").rename(tiny / "elsewhere")
    with pytest.raises(DataError, match=r"should hold the official validation images in val, and holds none"):
        tiny_imagenet(tiny)


def test_other_photos_in_the_root_are_not_taken_for_tiny_imagenet(tmp_path: Path) -> None:
    for name in ("nails", "nuts"):
        (tmp_path / "train" / name).mkdir(parents=True)
    with pytest.raises(
        DataError, match=r"wnids\.txt is not there: .* put tiny-imagenet-200\.zip from http://cs231n"
    ):
        tiny_imagenet(tmp_path, download=False)
