"""Images larger than memory: left in their file, read in the background, and the same bits come of it."""

import copy
import errno
import os
import pickle
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from budgetnet import (
    SGD,
    Data,
    FixMatch,
    Flip,
    Phase,
    PseudoLabels,
    Recipe,
    Split,
    Trainer,
    arrays,
    folder,
    stl10,
)
from budgetnet.data import DataError, OnDisk
from budgetnet.data.batches import WAITING, Ahead, reading
from budgetnet.data.disk import File, fits_memory, free_memory, joined, left_by_groups, source_of
from budgetnet.guard import before, image_hashes, look_alikes
from budgetnet.pseudo import Kept, join
from tests.conftest import coloured

SIDE = 12


def stored(images: Tensor, path: Path, *, offset: int = 0, cache: Path | None = None) -> OnDisk:
    path.write_bytes(bytes(offset) + images.contiguous().numpy().tobytes())
    return OnDisk([File(path, offset, len(images), tuple(images.shape[1:]))], cache=cache)


def on_disk(data: Data, folder: Path, *, cache: Path | None = None) -> Data:
    """The same data, the images of each split in a file."""
    parts: dict[str, Any] = {
        name: replace(part, images=stored(part.images, folder / f"{name}.bin", cache=cache))  # type: ignore[arg-type]
        for name, part in data.splits.items()
    }
    return replace(data, **parts)


def with_pool(data: Data) -> Data:
    more = coloured(90, val=0 + 3, seed=5).train
    return replace(data, unlabelled=replace(more, labels=torch.full_like(more.labels, -1)))


def recipe(*phases: Phase, **options: Any) -> Recipe:
    return Recipe(phases or [Phase(2, SIDE, 0.1, augment=[Flip()])], SGD(), batch_size=32, **options)


def trainer(out: Path | None = None) -> Trainer:
    return Trainer("cpu", out=out, show=False)


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (50, 3, 5, 4), generator=generator, dtype=torch.uint8)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_positions_of_any_layout_are_read_as_they_lie(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    axes = data.draw(st.permutations([0, 1, 2]))
    count, offset = data.draw(st.integers(1, 40)), data.draw(st.integers(0, 9))
    whole = torch.randint(0, 256, (count, 3, 5, 4), dtype=torch.uint8)
    item = whole.permute(0, *(1 + axes.index(k) for k in range(3))).contiguous()
    path = tmp_path_factory.mktemp("layout") / "x.bin"
    path.write_bytes(bytes(offset) + item.numpy().tobytes())
    found = OnDisk([File(path, offset, count, tuple(item.shape[1:]), tuple(axes))])  # type: ignore[arg-type]
    assert found.shape == whole.shape
    rows = torch.tensor(data.draw(st.lists(st.integers(0, count - 1), max_size=30)), dtype=torch.int64)
    batch = found.read(rows)
    assert batch.is_contiguous()
    assert torch.equal(batch, whole[rows])
    if len(rows):
        again = torch.tensor(
            data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)), dtype=torch.int64
        )
        assert torch.equal(found.at(rows).read(again), whole[rows][again])


def test_images_on_disk_answer_as_a_tensor_would(images: Tensor, tmp_path: Path) -> None:
    found = stored(images, tmp_path / "x.bin", offset=7)
    assert torch.equal(found[3], images[3])
    assert torch.equal(found[-1], images[-1])
    assert torch.equal(found[4:40:3], images[4:40:3])
    assert torch.equal(found[[2, 2, 49]], images[[2, 2, 49]])
    assert torch.equal(found[:, 1, :2], images[:, 1, :2])
    assert torch.equal(found[2, 1], images[2, 1])
    assert torch.equal(found.tensor(), images)
    assert torch.equal(copy.deepcopy(found)[5], images[5])
    assert torch.equal(pickle.loads(pickle.dumps(found))[5], images[5])


def test_several_places_are_one(images: Tensor, tmp_path: Path) -> None:
    one, other = images[:20], images[20:]
    both = joined(stored(one, tmp_path / "a.bin").at(torch.arange(19, -1, -2)), other)
    whole = torch.cat([one.flip(0)[::2], other])
    rows = torch.randperm(40)
    assert torch.equal(both[rows], whole[rows])
    more = joined(both, stored(images, tmp_path / "b.bin"))
    assert torch.equal(more.at(rows + 40)[:], images[rows])


def test_a_split_on_disk_is_the_split_in_memory(data: Data, tmp_path: Path) -> None:
    for cache in (None, tmp_path / "cache"):
        there = on_disk(data, tmp_path, cache=cache).train
        for _ in range(2):
            assert there.fingerprint() == data.train.fingerprint()
            assert there.mean_std() == data.train.mean_std()
            assert list(there.digests()) == list(data.train.digests())
            assert torch.equal(image_hashes(there), image_hashes(data.train))
        rows = torch.tensor([7, 7, 200, 0])
        for one, other in zip(there[rows], data.train[rows]):
            assert torch.equal(one, other)
        part, same = there.subset(rows), data.train.subset(rows)
        assert isinstance(part.images, OnDisk)
        assert part.fingerprint() == same.fingerprint()
        assert part.mean_std() == same.mean_std()
        assert list(part.digests()) == list(same.digests())


def test_a_subset_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "sparse.bin"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    images = OnDisk([File(path, 0, 1 << 20, (1, 2048, 2048))])
    split = Split(images, torch.zeros(1 << 20, dtype=torch.int64), torch.arange(1 << 20))
    part = split.subset(torch.arange(0, 1 << 20, 2))
    assert len(part) == 1 << 19
    assert int(part[[5]][0].sum()) == 0
    assert part.to("cpu") is part
    assert part.in_memory() is part


def test_what_was_found_out_is_not_looked_for_again(data: Data, tmp_path: Path) -> None:
    known = on_disk(data, tmp_path, cache=tmp_path / "cache")
    split = known.train
    first = (split.fingerprint(), split.mean_std(), list(split.digests()), before(known, recipe()))
    again = on_disk(data, tmp_path, cache=tmp_path / "cache")
    # The same file for all that the system says, with nothing inside: whoever reads would see it.
    for name, part in again.splits.items():
        path = tmp_path / f"{name}.bin"
        places = part.images.files  # type: ignore[union-attr]
        held = known.splits[name].images.files[0].identity  # type: ignore[union-attr]
        places[0].identity = held
        path.write_bytes(bytes(path.stat().st_size))
    split = again.train
    assert int(split[:5][0].sum()) == 0
    assert (split.fingerprint(), split.mean_std(), list(split.digests()), before(again, recipe())) == first
    assert look_alikes(split, again.val) == look_alikes(data.train, data.val)  # type: ignore[arg-type]


def test_a_changed_file_is_looked_at_anew(images: Tensor, tmp_path: Path) -> None:
    labels, rows = torch.zeros(50, dtype=torch.int64), torch.arange(50)
    first = Split(stored(images, tmp_path / "x.bin", cache=tmp_path), labels, rows)
    found = first.fingerprint(), list(first.digests())
    other = Split(stored(255 - images, tmp_path / "x.bin", cache=tmp_path), labels, rows)
    assert other.fingerprint() != found[0]
    assert next(other.digests()) != found[1][0]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"answer": 3', b"null", b"[]", b"\xff" * 40])
def test_a_damaged_note_is_found_out_again(images: Tensor, tmp_path: Path, damage: bytes) -> None:
    split = Split(
        stored(images, tmp_path / "x.bin", cache=tmp_path), torch.zeros(50).long(), torch.arange(50)
    )
    found = split.fingerprint(), split.mean_std(), list(split.digests())
    for path in (tmp_path / "known").iterdir():
        path.write_bytes(damage)
    fresh = pickle.loads(pickle.dumps(split.images))
    again = replace(split, images=OnDisk(fresh.parts, fresh.rows, cache=tmp_path))
    assert (again.fingerprint(), again.mean_std(), list(again.digests())) == found


def test_images_that_were_changed_in_memory_are_not_taken_for_the_files(
    images: Tensor, tmp_path: Path
) -> None:
    there = Split(
        stored(images, tmp_path / "x.bin", cache=tmp_path), torch.zeros(50).long(), torch.arange(50)
    )
    held = there.in_memory()
    assert isinstance(held.images, Tensor)
    assert source_of(held.images) is there.images
    assert held.fingerprint() == there.fingerprint()
    held.images[0] += 1
    assert held.fingerprint() != there.fingerprint()
    assert next(held.digests()) != next(there.digests())
    mirrored = replace(there, images=images.flip(-1))
    assert mirrored.fingerprint() != there.fingerprint()


def test_the_memory_allowed_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < free_memory() < 1 << 50
    assert fits_memory(1000)
    assert not fits_memory(free_memory())
    for stated, least in (("2GB", 2 * 10**9), ("1.5MiB", 3 << 19), ("7", 7), ("0", 0), (" 3 kb ", 3000)):
        monkeypatch.setenv("BUDGETNET_MEMORY", stated)
        assert fits_memory(least)
        assert not fits_memory(least + 1)
    for stated in ("much", "-1", "2XB", ""):
        monkeypatch.setenv("BUDGETNET_MEMORY", stated)
        with pytest.raises(DataError, match="BUDGETNET_MEMORY should be a size such as 2GB"):
            fits_memory(1)


def test_the_limit_of_a_group_above_counts_too(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/job/step\n")
    step = tmp_path / "sys/fs/cgroup/job/step"
    step.mkdir(parents=True)
    for group, limit, used, idle in ((step, "max", 100, 10), (step.parent, "1000", 400, 50)):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{used}\n")
        (group / "memory.stat").write_text(f"anon 7\ninactive_file {idle}\n")
    assert left_by_groups(tmp_path) == [650]
    (step / "memory.max").write_text("500\n")
    assert left_by_groups(tmp_path) == [410, 650]


def photos(root: Path) -> Path:
    for number in range(30):
        path = root / ("ant", "bee")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (8 * number, 100 * (number % 2), 7)).save(path)
    return root


def test_photos_stay_on_disk_where_they_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path / "photos")
    held = folder(root, size=8, cache=tmp_path / "cache")
    monkeypatch.setenv("BUDGETNET_MEMORY", "1kB")
    there = folder(root, size=8, cache=tmp_path / "cache")
    assert isinstance(held.train.images, Tensor)
    assert isinstance(there.train.images, OnDisk)
    assert ", on disk)" in repr(there.train)
    for name, part in there.splits.items():
        assert part.fingerprint() == held.splits[name].fingerprint()
        assert torch.equal(part[:][0], held.splits[name].images)  # type: ignore[arg-type]
        assert part.names == held.splits[name].names


def test_stl10s_columns_come_out_as_rows_from_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "stl10_binary"
    base.mkdir()
    generator = np.random.default_rng(0)
    for part, count in (("train", 20), ("unlabeled", 9)):
        pixels = generator.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
        (base / f"{part}_X.bin").write_bytes(pixels.transpose(0, 1, 3, 2).tobytes())
        if part == "train":
            (base / "train_y.bin").write_bytes(bytes(1 + k % 10 for k in range(count)))
    held = stl10(tmp_path, held_out=0, unlabelled=True)
    monkeypatch.setenv("BUDGETNET_MEMORY", "0")
    there = stl10(tmp_path, held_out=0, unlabelled=True)
    assert there.unlabelled is not None
    assert held.unlabelled is not None
    assert isinstance(there.unlabelled.images, OnDisk)
    np.testing.assert_array_equal(there.unlabelled[[8, 1]][0].numpy(), pixels[[8, 1]])
    assert there.unlabelled.fingerprint() == held.unlabelled.fingerprint()


@pytest.mark.parametrize("kind", ["plain", "fixmatch", "pseudo-labels"])
def test_a_training_from_disk_has_the_bits_of_one_from_memory(
    kind: str, data: Data, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = [Phase(1, SIDE, 0.1, views=1.5, augment=[Flip()])]
    if kind == "fixmatch":
        data = with_pool(data)
        phases = [
            Phase(2, SIDE, 0.1, pseudo=FixMatch(threshold=0.4, ratio=2, weak=[Flip()], strong=[Flip()]))
        ]
    if kind == "pseudo-labels":
        data = with_pool(data)
        phases += [Phase(1, SIDE, 0.1, pseudo=PseudoLabels(threshold=0.4))]
    other = copy.deepcopy(model)
    held = trainer().fit(model, data, recipe(*phases))
    monkeypatch.setenv("BUDGETNET_MEMORY", "0")
    there = trainer().fit(other, on_disk(data, tmp_path), recipe(*phases))
    assert threads() == 0
    for one, same in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, same)
    for ours, theirs in zip(held.history, there.history, strict=True):
        assert (ours.train_loss, ours.val_loss, ours.pseudo_images) == (
            theirs.train_loss,
            theirs.val_loss,
            theirs.pseudo_images,
        )
    if kind == "pseudo-labels":
        assert there.history[-1].pseudo_images > 0


def test_a_resumed_epoch_begins_at_its_batch(data: Data, model: nn.Module, tmp_path: Path) -> None:
    there, other, one = on_disk(data, tmp_path), copy.deepcopy(model), recipe(Phase(1, SIDE, 0.1))
    trainer().fit(model, data, one)
    run = trainer(tmp_path / "runs").fit(other, there, one, max_time=1e-9)
    sessions = 1
    while run.status == "paused":
        assert threads() == 0
        run = trainer(tmp_path / "runs").fit(other, there, one, resume=run.folder, max_time=1e-9)
        sessions += 1
    assert (run.status, sessions) == ("finished", 8)
    for ours, theirs in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_predictions_from_disk_are_those_from_memory(data: Data, model: nn.Module, tmp_path: Path) -> None:
    there = on_disk(data, tmp_path).train
    held = trainer().predict(model, data.train, resolution=SIDE, batch_size=37)
    found = trainer().predict(model, there, resolution=SIDE, batch_size=37)
    assert torch.equal(held.probabilities, found.probabilities)
    assert held.names == found.names
    one = trainer().evaluate(model, data.train, resolution=SIDE)
    assert trainer().evaluate(model, there, resolution=SIDE) == one
    assert threads() == 0


def threads() -> int:
    return sum(thread.name.startswith("budgetnet-reading") for thread in threading.enumerate())


def test_batches_come_in_order_and_few_wait(data: Data, tmp_path: Path) -> None:
    split = on_disk(data, tmp_path).train
    batches = list(torch.split(torch.randperm(240), 16))
    asked: list[int] = []

    def announced() -> Any:
        for number, which in enumerate(batches):
            asked.append(number)
            yield which

    with reading(split, announced()) as source:
        assert isinstance(source, Ahead)
        for number, which in enumerate(batches):
            images, labels = source[which]
            assert torch.equal(images, data.train[which][0])
            assert torch.equal(labels, data.train[which][1])
            assert asked[-1] <= number + WAITING
        assert threads() > 0
    assert threads() == 0
    with reading(data.train, batches) as plain:
        assert plain is data.train


def test_a_file_cut_off_meanwhile_is_one_sentence(data: Data, model: nn.Module, tmp_path: Path) -> None:
    there = on_disk(data, tmp_path)
    path = tmp_path / "train.bin"
    epochs = trainer().epochs(model, there, recipe())
    next(epochs)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError, match=r"train\.bin should hold 240 images of 432 bytes and is shorter"):
        next(epochs)
    assert threads() == 0
    with pytest.raises(DataError, match=r"train\.bin should hold .* cut off"):
        File(path, 0, 240, (3, SIDE, SIDE))
    with pytest.raises(DataError, match=r"nowhere cannot be read \(No such file"):
        File(tmp_path / "nowhere", 0, 240, (3, SIDE, SIDE))


def test_an_error_of_the_disk_is_one_sentence(
    data: Data, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = trainer().epochs(model, on_disk(data, tmp_path), recipe())
    next(epochs)

    def broken(*given: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.preadv", broken)
    with pytest.raises(DataError, match=r"train\.bin cannot be read \(Input/output error\)"):
        next(epochs)
    assert threads() == 0


def test_a_file_that_is_removed_meanwhile_is_read_on(data: Data, model: nn.Module, tmp_path: Path) -> None:
    epochs = trainer().epochs(model, on_disk(data, tmp_path), recipe())
    next(epochs)
    (tmp_path / "train.bin").unlink()
    assert next(epochs).train_loss < 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_threads_end_with_whatever_ends_the_epoch(
    data: Data, model: nn.Module, tmp_path: Path, error: type[BaseException]
) -> None:
    def step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        # Before the first epoch it is tried once, when nothing is read ahead yet.
        if threads() > 0:
            raise error
        return images, labels

    there = on_disk(data, tmp_path)
    with pytest.raises(error):
        trainer().fit(model, there, recipe(Phase(1, SIDE, 0.1, augment=[step])))  # type: ignore[list-item]
    assert threads() == 0
    for _ in trainer().epochs(model, there, recipe()):
        break
    assert threads() == 0


def test_pseudo_labels_join_without_a_copy_where_there_is_no_room(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = with_pool(data)
    there = on_disk(held, tmp_path)
    assert held.unlabelled is not None
    assert there.unlabelled is not None
    kept = Kept(torch.tensor([0, 4, 60]), torch.tensor([2, 0, 1]), torch.ones(3), 0.5, 1.0)
    whole = join(held.train, held.unlabelled, kept)
    copied = join(held.train, there.unlabelled, kept)
    assert isinstance(copied.images, Tensor)
    monkeypatch.setenv("BUDGETNET_MEMORY", "0")
    views = [join(held.train, there.unlabelled, kept), join(there.train, there.unlabelled, kept)]
    assert all(isinstance(view.images, OnDisk) for view in views)
    for found in (copied, *views, join(there.train, held.unlabelled, kept)):
        assert found.fingerprint() == whole.fingerprint()
        assert found.indices.tolist() == whole.indices.tolist()


def test_the_guard_sees_images_on_disk(data: Data, tmp_path: Path) -> None:
    assert data.val is not None
    shared = replace(with_pool(data), test=data.train.subset(range(30)), unlabelled=data.val.subset(range(9)))
    shared = replace(
        shared,
        unlabelled=replace(shared.unlabelled, labels=torch.full((9,), -1)),  # type: ignore[arg-type]
    )
    found = before(shared, recipe())
    assert any("byte for byte" in note for note in found)
    assert any("unlabelled" in note for note in found)
    for cache in (None, tmp_path / "cache"):
        assert before(on_disk(shared, tmp_path, cache=cache), recipe()) == found
    assert arrays(data.train.images, data.train.labels).train.fingerprint() == data.train.fingerprint()  # type: ignore[arg-type]


def _maps(folder: Path) -> dict[str, Any]:
    """Memory maps of the same 30 images, in every layout, and views of others."""
    generator = np.random.default_rng(0)
    images = generator.integers(256, size=(30, 6, 8, 3), dtype=np.uint8)
    np.save(folder / "last.npy", images)
    np.save(folder / "first.npy", images.transpose(0, 3, 1, 2))
    np.save(folder / "floats.npy", (images / 255).astype(np.float32))
    np.save(folder / "wide.npy", np.concatenate([images[:5], images, images[:7]]))
    images.tofile(folder / "raw.bin")

    def mapped(name: str) -> Any:
        return np.load(folder / name, mmap_mode="r")

    return {
        "last": mapped("last.npy"),
        "first": mapped("first.npy"),
        "floats": mapped("floats.npy"),
        "slice": mapped("wide.npy")[5:35],
        "view": np.asarray(mapped("last.npy")),
        "strided": mapped("last.npy")[::-1][::-1],
        "turned": mapped("first.npy").transpose(0, 2, 3, 1),
        "writeable": np.memmap(folder / "raw.bin", np.uint8, "r+", shape=(30, 6, 8, 3)),
        "raw": np.memmap(folder / "raw.bin", np.uint8, "r", offset=3 * 6 * 8 * 3, shape=(27, 6, 8, 3)),
    }


def test_what_was_written_to_a_map_that_copies_is_what_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUDGETNET_MEMORY", "0")
    np.save(tmp_path / "a.npy", np.full((40, 8, 8, 3), 200, np.uint8))
    images = np.load(tmp_path / "a.npy", mmap_mode="c")
    images[:] = 50
    train = arrays(images, [0, 1] * 20).train
    assert isinstance(train.images, OnDisk)
    assert set(train.images[:].flatten().tolist()) == {50}


@pytest.mark.parametrize(
    "name", ["last", "first", "floats", "slice", "view", "strided", "turned", "writeable"]
)
def test_a_memory_map_is_never_read_as_a_whole(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given = _maps(tmp_path)[name]
    labels = [0, 1, 2] * 10
    memory = arrays(given, labels, held_out=6)
    monkeypatch.setenv("BUDGETNET_MEMORY", "0")
    there = arrays(given, labels, held_out=6)
    assert isinstance(there.train.images, OnDisk)
    assert there.train.fingerprint() == memory.train.fingerprint()
    assert there.val is not None
    assert memory.val is not None
    assert there.val.fingerprint() == memory.val.fingerprint()
    file = there.train.images.files[0]
    assert (file.path.parent == tmp_path) == (name not in ("floats", "turned"))


def test_a_map_that_begins_within_a_file_is_read_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUDGETNET_MEMORY", "0")
    maps = _maps(tmp_path)
    found = arrays(maps["raw"], [0, 1, 2] * 9).train.images
    assert isinstance(found, OnDisk)
    assert torch.equal(found[:], torch.from_numpy(maps["last"][3:].copy()).permute(0, 3, 1, 2))
    grey = np.memmap(tmp_path / "raw.bin", np.uint8, "r", shape=(90, 6, 8))
    assert arrays(grey, [0, 1] * 45).train.images.shape == (90, 1, 6, 8)
