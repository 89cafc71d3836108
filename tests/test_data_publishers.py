"""STL-10 and CIFAR-10 as their publishers lay them out, on small files of the same layout."""

from pathlib import Path

import numpy as np
import pytest
import torch

from budgetnet.data import DataError, cifar10, stl10


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


def test_unlabelled_images_are_mapped_and_read_upright(tmp_path: Path) -> None:
    write_stl10(tmp_path / "stl10_binary", "train", 20)
    images = write_stl10(tmp_path / "stl10_binary", "unlabeled", 12, seed=1)
    assert stl10(tmp_path, held_out=0).unlabelled is None
    rest = stl10(tmp_path, held_out=0, unlabelled=True).unlabelled
    assert rest is not None
    np.testing.assert_array_equal(rest[[3, 11]][0].numpy(), images[[3, 11]])
    assert rest.labels.unique().tolist() == [-1]
    # Mapped, not read: what changes in the file shows, until the page is touched.
    with (tmp_path / "stl10_binary" / "unlabeled_X.bin").open("r+b") as file:
        file.seek(7 * 27_648)
        file.write(bytes(27_648))
    assert int(rest[[7]][0].sum()) == 0


def test_a_mapped_file_is_never_written(tmp_path: Path) -> None:
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
