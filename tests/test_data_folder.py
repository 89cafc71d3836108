"""Folders of photos: what is found in them, how each kind of file comes out, and what is stored."""

import io
import os
import stat
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from budgetnet.data import DataError, folder, oddities
from budgetnet.data.photos import read_photo

RNG = np.random.default_rng(0)


def photo(path: Path, size: int, *, squash: bool) -> Any:
    """The photo's pixels, or the reason why it cannot be read."""
    read = read_photo(path, size, squash=squash)
    return read.odd[0][1] if read.pixels is None else read.pixels


def pixels(height: int = 20, width: int = 30) -> np.ndarray:
    return RNG.integers(256, size=(height, width, 3), dtype=np.uint8)


def save(path: Path, image: Image.Image | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.fromarray(pixels())).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of five photos each, in class folders."""
    for name in ("ant", "bee"):
        for number in range(5):
            save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BUDGETNET_DATA", raising=False)
    return tmp_path / "cache" / "budgetnet"


def test_class_folders_alone_are_split_by_held_out(photos: Path) -> None:
    data = folder(photos, size=8)
    assert data.val is not None
    assert (len(data.train), len(data.val), data.test) == (8, 2, None)
    assert data.val.counts(2) == (1, 1)
    assert data.classes == ("ant", "bee")
    assert data.name == "photos"
    assert data.train.names is not None
    assert data.val.names is not None
    assert sorted(data.train.names + data.val.names) == [
        f"{c}/{n}.png" for c in ("ant", "bee") for n in range(5)
    ]
    assert folder(photos, size=8, held_out=0).val is None
    assert len(folder(photos, size=8, held_out=[0, 1, 5]).val or ()) == 3
    assert folder(photos, size=8, held_out=0, per_class=2).train.counts(2) == (2, 2)


def test_each_image_keeps_its_own_name_and_label(photos: Path) -> None:
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        save(path, Image.new("RGB", (9, 9), (number, 0, 0)))
    data = folder(photos, size=4, held_out=0.4)
    for split in (data.train, data.val):
        assert split is not None
        assert split.images[:, 0, 0, 0].tolist() == split.indices.tolist()
        assert split.names == tuple(
            f"{'ab'[i // 5]}{('nt', 'ee')[i // 5]}/{i % 5}.png" for i in split.indices.tolist()
        )
        assert split.labels.tolist() == [i // 5 for i in split.indices.tolist()]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_train_val_and_test_folders_are_recognised(tmp_path: Path, val: str) -> None:
    for part, count in (("train", 4), (val, 2), ("test", 3)):
        for name in ("ant", "bee"):
            for number in range(count):
                save(tmp_path / "set" / part / name / "deeper" / f"{number}.jpg")
    save(tmp_path / "set" / "README.png")
    data = folder(tmp_path / "set", size=8)
    assert data.val is not None
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (8, 4, 6)
    assert data.notes == ("1 file beside the photos (README.png): left out",)
    assert data.test.names is not None
    assert data.test.names[-1] == "test/bee/deeper/2.jpg"
    assert data.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    few = folder(tmp_path / "set", size=8, per_class=1)
    assert (len(few.train), len(few.val or ())) == (2, 4)
    with pytest.raises(DataError, match="has a val folder and held_out=2 was given"):
        folder(tmp_path / "set", size=8, held_out=2)


def test_train_and_test_alone_hold_out_from_train(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            for number in range(5):
                save(tmp_path / "set" / part / name / f"{number}.png")
    data = folder(tmp_path / "set", size=8)
    assert (len(data.train), len(data.val or ()), len(data.test or ())) == (8, 2, 10)


def test_tiny_imagenet_as_published_is_understood(tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    lines = []
    for label, name in enumerate(("n01", "n02")):
        for number in range(3):
            save(root / "train" / name / "images" / f"{name}_{number}.JPEG")
        (root / "train" / name / f"{name}_boxes.txt").write_text("n01_0.JPEG\t0\t0\t63\t63\n")
        save(root / "val" / "images" / f"val_{1 - label}.JPEG", Image.new("RGB", (8, 8), (200 * label, 0, 0)))
        lines.append(f"val_{1 - label}.JPEG\t{name}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    save(root / "test" / "images" / "test_0.JPEG")
    data = folder(root, size=8)
    assert data.val is not None
    assert data.val.labels.tolist() == [1, 0]
    assert data.val.images[:, 0].float().mean((1, 2)).round().tolist() == pytest.approx([200, 0], abs=2)
    assert (len(data.train), data.test) == (6, None)
    assert any("2 files beside the photos (train/n01/n01_boxes.txt, " in note for note in data.notes)
    assert "1 part with none of train's class folders (test): left out" in data.notes
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn09\t0\n")
    with pytest.raises(DataError, match="names the class 'n09', which train lacks"):
        folder(root, size=8)


def test_other_files_are_left_out_and_named(photos: Path) -> None:
    (photos / "ant" / "notes.txt").write_text("x")
    (photos / "bee" / "Thumbs.db").write_bytes(b"x")
    (photos / "bee" / ".DS_Store").write_bytes(b"x")
    (photos / "bee" / "._0.png").write_bytes(b"x")
    save(photos / "loose.png")
    data = folder(photos, size=8)
    assert len(data.train) == 8
    assert data.notes == (
        "2 files beside the photos (loose.png, ant/notes.txt): left out",
        "3 files or folders hidden or of a system's making (bee/.DS_Store, bee/._0.png, bee/Thumbs.db): "
        "left out",
    )


def test_unreadable_and_cut_files_are_named_and_skipped_or_refused(photos: Path) -> None:
    (photos / "ant" / "0.png").write_bytes(b"no image at all")
    whole = save(photos / "bee" / "cut.jpg", Image.fromarray(pixels(200, 200))).read_bytes()
    (photos / "bee" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "bee" / "empty.jpg").write_bytes(b"")
    os.symlink("nowhere.jpg", photos / "bee" / "gone.jpg")
    for _ in range(2):
        data = folder(photos, size=8, held_out=0)
        (note,) = data.notes
        assert note.startswith("4 of 13 photos cannot be read: ant/0.png (not an image), bee/cut.jpg (")
        assert "truncated" in note
        assert note.endswith(
            ", bee/empty.jpg (empty), bee/gone.jpg (a link that leads nowhere), and were skipped"
        )
        assert data.train.names is not None
        assert "ant/0.png" not in data.train.names
        assert data.train.indices.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        assert data.train.counts(2) == (4, 5)
        with pytest.raises(DataError, match=r'4 of 13 photos cannot be read: ant/0\.png .*unreadable="skip"'):
            folder(photos, size=8, unreadable="refuse")


def test_a_class_of_which_nothing_can_be_read_is_refused(photos: Path) -> None:
    for name in ("bee", "ant"):
        for path in (photos / name).iterdir():
            path.write_bytes(b"x")
        with pytest.raises(
            DataError, match=f"of class '{name}' can be read, such as {name}/0.png .not an image"
        ):
            folder(photos, size=8)


def test_missing_roots_empty_classes_and_stray_classes_are_one_sentence_each(
    photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="nowhere is not there: name the folder"):
        folder(tmp_path / "nowhere", size=8)
    with pytest.raises(DataError, match=r"0\.png is a file, not a folder"):
        folder(photos / "ant" / "0.png", size=8)
    with pytest.raises(
        DataError, match="should hold a folder for each of two classes or more, but holds none"
    ):
        folder(photos / "ant", size=8)
    (tmp_path / "above").mkdir()
    os.symlink(photos, tmp_path / "above" / "photos")
    with pytest.raises(DataError, match="but holds only 'photos'"):
        folder(tmp_path / "above", size=8)
    (photos / "cat").mkdir()
    with pytest.raises(DataError, match=r"the class folder .*cat holds no photos"):
        folder(photos, size=8)


def test_parts_that_do_not_fit_train_are_refused(tmp_path: Path) -> None:
    for name in ("ant", "bee", "cat"):
        save(tmp_path / "set" / "val" / name / "0.png")
    with pytest.raises(DataError, match="holds 'val' but no 'train'"):
        folder(tmp_path / "set", size=8)
    for name in ("ant", "bee"):
        save(tmp_path / "set" / "train" / name / "0.png")
    with pytest.raises(DataError, match="val has a class folder 'cat' that train lacks"):
        folder(tmp_path / "set", size=8)
    (tmp_path / "set" / "valid").mkdir()
    with pytest.raises(DataError, match="holds both 'val' and 'valid', one too many"):
        folder(tmp_path / "set", size=8)


@pytest.mark.parametrize(
    "options",
    [{"size": 0}, {"size": 8.0}, {"size": True}, {"size": 8, "shape": "fit"}, {"size": 8, "unreadable": "x"}],
)
def test_mistaken_options_are_refused_before_anything_is_read(options: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"(size|shape|unreadable) should be"):
        folder("nowhere", **options)  # type: ignore[arg-type]


def test_a_relative_root_is_looked_for_in_the_data_folder(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUDGETNET_DATA", str(photos.parent))
    known = folder(photos, size=8).train.fingerprint()
    assert folder("photos", size=8).train.fingerprint() == known
    monkeypatch.setenv("BUDGETNET_DATA", str(photos))
    assert folder(size=8).train.fingerprint() == known


def test_photos_are_stored_once_and_stored_again_when_they_change(
    photos: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = folder(photos, size=8)
    assert "storing 10 photos at 8x8" in capfd.readouterr().err
    (stored,) = cache.glob("*.safetensors")
    written = stored.stat().st_mtime_ns
    assert folder(photos, size=8).train.fingerprint() == first.train.fingerprint()
    assert capfd.readouterr().err == ""
    assert stored.stat().st_mtime_ns == written
    save(photos / "ant" / "0.png", Image.new("RGB", (50, 50)))
    assert folder(photos, size=8, held_out=0).train.images[0].sum() == 0
    assert stored not in list(cache.glob("*.safetensors"))
    assert len(list(cache.glob("*.safetensors"))) == 1
    save(photos / "ant" / "new.png")
    assert len(folder(photos, size=8, held_out=0).train) == 11
    folder(photos, size=9)
    folder(photos, size=9, shape="squash")
    assert len(list(cache.glob("*.safetensors"))) == 3


def test_what_is_stored_is_a_safetensors_file_others_can_read(photos: Path, cache: Path) -> None:
    (photos / "ant" / "0.png").write_bytes(b"x")
    data = folder(photos, size=8, held_out=0)
    (path,) = cache.glob("*.safetensors")
    assert torch.equal(load_file(path)["images"], data.train.images)


def test_a_damaged_store_is_made_anew(photos: Path, cache: Path) -> None:
    known = folder(photos, size=8).train.fingerprint()
    (path,) = cache.glob("*.safetensors")
    for damaged in (path.read_bytes()[:-50], b"", b"x" * 2000):
        path.write_bytes(damaged)
        assert folder(photos, size=8).train.fingerprint() == known


def test_stored_pixels_are_held_against_their_digest(
    photos: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = folder(photos, size=8)
    known, figures = data.train.fingerprint(), data.train.mean_std()
    (path,) = cache.glob("*.safetensors")
    whole = path.read_bytes()
    capfd.readouterr()
    for place in (1024, 1500, 1024 + 10 * 192 - 1, len(whole) - 1, 100):
        before = path.stat()
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert folder(photos, size=8).train.fingerprint() == known
        assert (
            "storing 10 photos at 8x8 again, for the file that held them is damaged" in capfd.readouterr().err
        )
        assert path.read_bytes() == whole
        assert folder(photos, size=8).train.fingerprint() == known
        assert capfd.readouterr().err == ""
    # What was found out about them may be damaged, too: then it is found out again, and nothing is made.
    learnt = list((cache / "known").iterdir())
    for damage in (
        lambda text: bytes(len(text)),
        lambda text: text[:-3],
        lambda text: text.replace(b"0", b"1"),
    ):
        for file in learnt:
            file.write_bytes(damage(file.read_bytes()))
        data = folder(photos, size=8)
        assert (data.notes, data.train.fingerprint(), data.train.mean_std()) == ((), known, figures)
    assert capfd.readouterr().err == ""


def test_a_store_from_before_there_were_digests_is_made_again(photos: Path, cache: Path) -> None:
    known = folder(photos, size=8).train.fingerprint()
    (path,) = cache.glob("*.safetensors")
    save_file(load_file(path), path)
    assert folder(photos, size=8).train.fingerprint() == known


def test_nothing_readable_of_a_part_is_stored_and_found_again(photos: Path) -> None:
    for path in photos.glob("*/*.png"):
        path.write_bytes(b"x")
    for _ in range(2):
        with pytest.raises(DataError, match="none of the photos of class"):
            folder(photos, size=8)


def test_a_photo_that_the_system_hands_out_at_last_is_read(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_back = photos / "ant" / "0.png"

    def opened(path: Path) -> object:
        if path == kept_back:
            raise PermissionError(13, "Permission denied")
        return real(path)

    real = oddities.opened
    monkeypatch.setattr("budgetnet.data.photos.opened", opened)
    monkeypatch.setattr("os.access", lambda path, mode: path != kept_back)
    for _ in range(2):
        assert "ant/0.png (Permission denied)" in folder(photos, size=8).notes[0]
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(photos.parent / "cache"))
    assert folder(photos, size=8).notes == ()


def test_a_store_that_cannot_be_written_is_a_sentence(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"the photos cannot be stored in .*file.*name another cache"):
        folder(photos, size=8, cache=tmp_path / "file" / "below")


def test_nothing_is_left_behind_when_storing_is_interrupted(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threading.active_count()

    def interrupted(*given: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        folder(photos, size=8)
    assert list(cache.iterdir()) == []
    assert threading.active_count() == before


def test_the_photos_are_left_as_they_were(photos: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*.png")}
    folder(photos, size=8)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*.png")} == before
    assert sorted(photos.rglob("*.png")) == sorted(before)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(64, 128, 32), (96, 48, 12), (40, 40, 40), (20, 40, 50)]
)
def test_a_photo_is_resized_and_cropped_as_torchvision_does(
    tmp_path: Path, height: int, width: int, size: int
) -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2")
    image = Image.fromarray(pixels(height, width))
    path = save(tmp_path / "a.png", image)
    reference = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])(image)
    cropped = photo(path, size, squash=False)
    assert isinstance(cropped, np.ndarray)
    # Pillow rounds between its two passes, and takes them in another order for a part of a tall image.
    np.testing.assert_allclose(
        cropped.astype(int), np.asarray(reference, int).transpose(2, 0, 1), rtol=0, atol=1
    )
    squashed = np.asarray(transforms.Resize((size, size))(image)).transpose(2, 0, 1)
    np.testing.assert_array_equal(photo(path, size, squash=True), squashed)


def test_a_large_jpeg_comes_out_as_if_it_were_decoded_whole(tmp_path: Path) -> None:
    smooth = Image.fromarray(pixels(12, 16)).resize((1600, 1200), Image.Resampling.BICUBIC)
    jpeg = save(tmp_path / "a.jpg", smooth, quality=95)
    with Image.open(jpeg) as image:
        image.convert("RGB").save(tmp_path / "a.png")
    near, exact = photo(jpeg, 64, squash=False), photo(tmp_path / "a.png", 64, squash=False)
    assert isinstance(near, np.ndarray)
    assert isinstance(exact, np.ndarray)
    assert np.abs(near.astype(int) - exact).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_in_exif_is_applied(tmp_path: Path, orientation: int) -> None:
    corners = np.zeros((16, 16, 3), np.uint8)
    corners[:8, :8], corners[:8, 8:], corners[8:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    upright = Image.fromarray(corners)
    # What a camera held so would store: the inverse of what the orientation asks a viewer to do.
    moves = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}
    stored = upright
    for move in moves.get(orientation, []):
        stored = stored.transpose(Image.Transpose(move))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", stored, exif=exif)
    np.testing.assert_array_equal(photo(path, 16, squash=False), corners.transpose(2, 0, 1))


def grey(value: int) -> list[int]:
    return [value] * 3


@pytest.mark.parametrize(
    ("image", "ending", "expected"),
    [
        (Image.new("L", (8, 8), 77), "png", grey(77)),
        (Image.new("1", (8, 8), 1), "png", grey(255)),
        (
            Image.new("RGB", (8, 8), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE),
            "gif",
            [10, 20, 30],
        ),
        (Image.new("RGBA", (8, 8), (10, 20, 30, 255)), "png", [10, 20, 30]),
        (Image.new("RGBA", (8, 8), (10, 20, 30, 0)), "png", grey(255)),
        (Image.new("LA", (8, 8), (40, 0)), "png", grey(255)),
        (Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "tif", grey(255)),
        (Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "tif", [0, 255, 255]),
        (Image.fromarray(np.full((8, 8), 65535, np.uint16)), "png", grey(255)),
        (Image.fromarray(np.full((8, 8), 0x8080, np.uint16)), "tif", grey(0x80)),
        (Image.fromarray(np.full((8, 8), 1000, np.int32)), "tif", grey(4)),
        (Image.fromarray(np.full((8, 8), 0.5, np.float32)), "tif", grey(128)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, image: Image.Image, ending: str, expected: list[int]) -> None:
    found = photo(save(tmp_path / f"a.{ending}", image), 4, squash=False)
    assert isinstance(found, np.ndarray), found
    assert found.shape == (3, 4, 4)
    assert found[:, 2, 2].tolist() == pytest.approx(expected, abs=1)


def test_a_cmyk_jpeg_comes_out_in_its_colours(tmp_path: Path) -> None:
    found = photo(save(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0))), 4, squash=False)
    assert isinstance(found, np.ndarray)
    assert found[:, 0, 0].tolist() == pytest.approx([255, 0, 0], abs=6)


def test_a_palette_with_transparency_comes_out_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 8, 4))
    found = photo(save(tmp_path / "a.png", image, transparency=0), 8, squash=False)
    assert isinstance(found, np.ndarray)
    assert found[:, 7, 0].tolist() == grey(255)
    assert found[:, 0, 0].tolist() == [200, 100, 50]


def test_greys_without_a_known_scale_are_not_guessed_at(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.full((8, 8), 3000.0, np.float32)))
    assert photo(path, 4, squash=False) == "greys of 3000 ... 3000 instead of 0 ... 1"


def test_a_decompression_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", Image.new("L", (300, 300)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80_000)
    with pytest.warns(Image.DecompressionBombWarning):
        assert photo(path, 4, squash=False) == "300x300 pixels are more than Pillow's limit of 80,000"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    assert "decompression bomb" in str(photo(path, 4, squash=False))


def test_a_bomb_among_photos_is_skipped_without_a_warning(
    photos: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    save(photos / "ant" / "0.png", Image.new("L", (300, 300)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80_000)
    (note,) = folder(photos, size=8).notes
    assert "ant/0.png (300x300 pixels are more than Pillow's limit of 80,000)" in note
    assert len(recwarn) == 0


def test_what_was_too_large_once_is_looked_at_again(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(photos / "ant" / "0.png", Image.new("L", (300, 300)))
    with monkeypatch.context() as limited:
        limited.setattr(Image, "MAX_IMAGE_PIXELS", 80_000)
        assert len(folder(photos, size=8, held_out=0).train) == 9
    assert len(folder(photos, size=8, held_out=0).train) == 10


def test_pixels_changed_through_an_array_are_not_those_of_the_file(photos: Path) -> None:
    train = folder(photos, size=8, held_out=0).train
    known = train.fingerprint()
    train.images.numpy()[:] = 0
    assert train.fingerprint() != known
    assert len(set(train.digests())) == 1
    assert train.mean_std()[0] == (0, 0, 0)


def test_greys_of_32_bits_that_may_have_8_are_left_out(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(64, dtype=np.int32).reshape(8, 8))
    found = photo(save(tmp_path / "a.tif", image), 4, squash=False)
    assert found == "32-bit greys of at most 63, which may be 8 bits or 16"


def test_a_file_that_only_calls_itself_a_photo_is_not_handed_to_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("L", (8, 8)).save(path, format="EPS")
    assert photo(path, 4, squash=False) == "not an image"


def test_a_very_long_photo_costs_no_more_than_a_square_one(tmp_path: Path) -> None:
    found = photo(save(tmp_path / "a.png", Image.new("L", (60_000, 2), 9)), 64, squash=False)
    assert isinstance(found, np.ndarray)
    assert found.max() == found.min() == 9


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_looked_into_is_a_sentence(photos: Path) -> None:
    (photos / "ant").chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be looked into"):
            folder(photos, size=8)
    finally:
        (photos / "ant").chmod(stat.S_IRWXU)


def test_names_that_are_not_utf8_are_kept(photos: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, format="PNG")
    with open(os.fsencode(photos) + b"/ant/\xff\xfe.png", "wb") as file:
        file.write(buffer.getvalue())
    names = folder(photos, size=8, held_out=0).train.names
    assert names is not None
    assert os.fsdecode(b"ant/\xff\xfe.png") in names
    with open(os.fsencode(photos) + b"/ant/\xff\xfe.png", "wb") as file:
        file.write(b"x")
    (note,) = folder(photos, size=8).notes
    assert "1 of 11 photos cannot be read: ant/\\udcff\\udcfe.png" in note.encode().decode()


def test_photos_of_one_channel_are_greys_as_predict_reads_them(photos: Path, cache: Path) -> None:
    save(photos / "ant" / "grey.png", Image.new("L", (9, 9), 77))
    data = folder(photos, size=8, channels=1, held_out=0)
    colours = folder(photos, size=8, held_out=0)
    assert data.train.shape == (11, 1, 8, 8)
    assert not data.notes
    assert any("three equal channels" in note for note in colours.notes)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    close = (colours.train.images.float() * weights).sum(1, keepdim=True).round()
    assert torch.equal(data.train.images.float(), close)
    assert len(list(cache.glob("*.safetensors"))) == 2
    assert torch.equal(folder(photos, size=8, channels=1, held_out=0).train.images, data.train.images)
    with pytest.raises(DataError, match="channels of photos should be 3 for colours or 1 for greys, not 4"):
        folder(photos, size=8, channels=4)  # type: ignore[typeddict-item]


def test_a_folder_of_photos_without_labels_is_what_pseudo_labels_learn_from(
    photos: Path, tmp_path: Path
) -> None:
    for number in range(3):
        save(tmp_path / "more" / "deep" / f"{number}.jpg")
    (tmp_path / "more" / "broken.png").write_text("<html>")
    data = folder(photos, size=8, unlabelled=tmp_path / "more")
    assert data.unlabelled is not None
    assert data.unlabelled.shape == (3, 3, 8, 8)
    assert data.unlabelled.labels.tolist() == [-1] * 3
    assert data.unlabelled.names == ("deep/0.jpg", "deep/1.jpg", "deep/2.jpg")
    assert any("1 of 4 photos cannot be read: broken.png" in note for note in data.notes)
    assert (len(data.train), len(data.val or ())) == (8, 2)
    with pytest.raises(
        DataError, match=r"unlabelled should be True or a folder of photos, and .*nowhere is none"
    ):
        folder(photos, size=8, unlabelled=tmp_path / "nowhere")


def test_the_grey_of_sixteen_bits_that_is_transparent_comes_out_white(tmp_path: Path) -> None:
    values = np.full((8, 8), 1000, np.uint16)
    values[:4] = 40000
    Image.fromarray(values).save(tmp_path / "a.png", transparency=1000)
    found = photo(tmp_path / "a.png", 8, squash=False)
    assert (int(found[0, 0, 0]), int(found[0, 7, 7])) == (round(40000 / 257), 255)
