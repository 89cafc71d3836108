"""Odd photos and folders: each is named with its kind and treated by its policy; nothing crashes or hangs."""

import io
import json
import os
import resource
import shutil
import struct
import subprocess
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageCms
from trials import trials

from budgetnet import arrays
from budgetnet.cli import main
from budgetnet.data import DataError, folder, inspect, policies
from budgetnet.data.kinds import KINDS, TABLE, UNREADABLE, sentences
from budgetnet.data.oddities import SCANS
from budgetnet.data.photos import read_photo
from budgetnet.data.walk import FORMATS

GENERATOR = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BUDGETNET_DATA", raising=False)
    return tmp_path / "cache" / "budgetnet"


def picture(mode: str = "RGB", width: int = 24, height: int = 20) -> Image.Image:
    """Noise, never the same twice."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = GENERATOR.integers(256, size=(height, width, channels), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), values.tobytes())


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(image: Image.Image | None = None, **options: object) -> bytes:
    return encoded(image or picture(), "JPEG", **options)


def png(image: Image.Image | None = None, **options: object) -> bytes:
    return encoded(image or picture(), "PNG", **options)


def half(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def frames(form: str) -> bytes:
    return encoded(picture(), form, save_all=True, append_images=[picture(), picture()])


def chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG whose header says what it is told to say."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_colours() -> bytes:
    rows = b"".join(b"\0" + GENERATOR.bytes(6 * 20) for _ in range(16))
    return raw_png(20, 16, 16, 2, rows)


def without_pixels_intact() -> bytes:
    """A PNG whose chunks are in order and whose compressed pixels are noise."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 20, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", GENERATOR.bytes(500)) + chunk(b"IEND", b"")


def with_damaged_header() -> bytes:
    whole = bytearray(png())
    whole[18] ^= 0x55
    return bytes(whole)


def with_many_scans(times: int) -> bytes:
    """A progressive JPEG whose last scan comes so many times."""
    whole = jpeg(progressive=True)
    start = whole.rindex(b"\xff\xda")
    return whole[:start] + whole[start:-2] * times + whole[-2:]


def with_damaged_exif() -> bytes:
    content = b"Exif\0\0" + b"neither II nor MM, and far too short"
    return jpeg()[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg()[2:]


def turned(form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(), form, exif=exif)


def profile(name: str) -> bytes:
    """The least that calls itself an ICC profile of this name."""
    text = name.encode("ascii") + b"\0"
    entry = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text
    table = struct.pack(">I", 1) + b"desc" + struct.pack(">II", 144, len(entry))
    return (
        struct.pack(">I", 144 + len(entry)).ljust(16, b"\0") + b"RGB XYZ ".ljust(112, b"\0") + table + entry
    )


def clear_palette(form: str) -> bytes:
    image = picture().quantize(8)
    return encoded(image, form, transparency=0)


def noise(kind: type, high: float) -> Image.Image:
    return Image.fromarray((GENERATOR.random((20, 24)) * high).astype(kind))


def huge_bmp() -> bytes:
    header = struct.pack("<IIIIiiHHIIIIII", 1 << 20, 0, 54, 40, 90_000, 90_000, 1, 24, *[0] * 6)
    return b"BM" + header


def huge_gif() -> bytes:
    screen = struct.pack("<HHBBB", 65_000, 65_000, 0, 0, 0)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, 65_000, 65_000, 0) + b"\x08\0;"


def lying_jpeg(width: int, height: int) -> bytes:
    """A JPEG whose header states other sides than it has."""
    whole = bytearray(jpeg(picture(width=64, height=64)))
    at = whole.index(b"\xff\xc0")
    whole[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


def with_damaged_pixels() -> bytes:
    whole = bytearray(png())
    whole[whole.index(b"IDAT") + 8] ^= 0xFF
    return bytes(whole)


def run_length_bmp(body: bytes) -> bytes:
    """A BMP of 8 x 8 pixels in runs, with a palette of two colours."""
    head = struct.pack("<IiiHHIIIIII", 40, 8, 8, 1, 8, 1, len(body), 0, 0, 2, 0)
    start = 14 + len(head) + 8
    return b"BM" + struct.pack("<III", start + len(body), 0, start) + head + b"\0\0\0\0\xff\xff\xff\0" + body


def with_packed_chunk(name: bytes) -> bytes:
    """A PNG with a chunk of text or of a colour profile that unpacks to 50 MB."""
    whole = png()
    at = whole.index(b"IDAT") - 4
    return whole[:at] + chunk(name, b"a\0\0" + zlib.compress(bytes(50_000_000))) + whole[at:]


STANDARD = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# The file, the kinds that it is named with, and its bytes.
FILES: dict[str, tuple[set[str], Callable[[], bytes]]] = {
    "empty.jpg": ({"empty"}, lambda: b""),
    "text.png": ({"not an image"}, lambda: b"no image at all"),
    "page.jpg": ({"not an image"}, lambda: b"\n<!DOCTYPE html><html>404</html>"),
    "pointer.jpg": ({"not an image"}, lambda: b"version https://git-lfs.github.com/spec/v1\n"),
    "telephone.jpg": ({"not an image"}, lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    "print.png": ({"not an image"}, lambda: b"%PDF-1.7\n"),
    "script.jpg": ({"not an image"}, lambda: encoded(picture(), "EPS")),
    "drawing.png": ({"not an image"}, lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "zeros.jpg": ({"not an image"}, lambda: bytes(5000)),
    "cut.jpg": ({"truncated"}, lambda: half(jpeg(picture(width=200, height=200)))),
    "cut.png": ({"truncated"}, lambda: half(png())),
    "cut.gif": ({"truncated"}, lambda: half(encoded(picture("L", 90, 90), "GIF"))),
    "cut.webp": ({"truncated"}, lambda: half(encoded(picture(), "WEBP"))),
    "cut.bmp": ({"truncated"}, lambda: half(encoded(picture(), "BMP"))),
    "cut.tif": ({"truncated"}, lambda: half(encoded(picture(), "TIFF"))),
    "cut.ppm": ({"truncated"}, lambda: half(encoded(picture(), "PPM"))),
    "head.png": ({"truncated"}, lambda: png()[:20]),
    "head.jpg": ({"truncated"}, lambda: jpeg()[:12]),
    "header.png": ({"damaged"}, with_damaged_header),
    "noise.png": ({"damaged"}, without_pixels_intact),
    "crc.png": ({"damaged"}, with_damaged_pixels),
    "depth.png": ({"damaged"}, lambda: raw_png(8, 8, 3, 2, bytes(100))),
    "no-palette.png": ({"damaged"}, lambda: raw_png(8, 8, 8, 3, bytes(72))),
    "no-sides.png": ({"damaged"}, lambda: raw_png(20, 0, 8, 2, b"")),
    "no-sides.jpg": ({"damaged"}, lambda: lying_jpeg(0, 0)),
    "no-frame.gif": ({"damaged"}, lambda: b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b";"),
    "no-frame.jpg": ({"damaged"}, lambda: b"\xff\xd8\xff\xd9"),
    "packed-text.png": ({"damaged"}, lambda: with_packed_chunk(b"zTXt")),
    "packed-profile.png": ({"damaged"}, lambda: with_packed_chunk(b"iCCP")),
    "endless.tif": ({"damaged"}, lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0"),
    "short.bmp": ({"damaged"}, lambda: run_length_bmp(b"\x08\x01")),
    "short.png": ({"truncated"}, lambda: raw_png(20, 20, 8, 2, bytes(100))),
    "begun.jpg": ({"truncated"}, lambda: b"\xff\xd8\xff"),
    "cut-scans.jpg": ({"truncated"}, lambda: half(jpeg(picture(width=200, height=200), progressive=True))),
    "cut-moving.webp": ({"truncated"}, lambda: half(frames("WEBP"))),
    "avif.jpg": ({"not an image"}, lambda: b"\0\0\0\x1cftypavif" + bytes(50)),
    "jp2.jpg": ({"not an image"}, lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50)),
    "icon.png": ({"not an image"}, lambda: encoded(picture("RGB", 32, 32), "ICO")),
    "icon.ico": ({"other format"}, lambda: encoded(picture("RGB", 32, 32), "ICO")),
    "negative.ppm": ({"not an image"}, lambda: b"P6 -8 8 255\n" + bytes(500)),
    "lying.jpg": ({"bomb"}, lambda: lying_jpeg(60_000, 60_000)),
    "large.ppm": ({"bomb"}, lambda: b"P6 99999 99999 255\n" + bytes(50)),
    "strip.tif": ({"tiny", "elongated"}, lambda: encoded(picture("RGB", 1, 10_000), "TIFF")),
    "runs.bmp": ({"greyscale"}, lambda: run_length_bmp(b"\x08\x01\0\0" * 8 + b"\0\1")),
    "tail.jpg": (set(), lambda: jpeg() + b"<?php system(1) ?>" * 9),
    "more.png": (set(), lambda: raw_png(8, 8, 8, 2, bytes(10**6))),
    "bomb.png": ({"bomb"}, lambda: raw_png(60_000, 60_000, 8, 2, bytes(1000))),
    "large.png": ({"bomb"}, lambda: raw_png(10_000, 10_000, 8, 2, bytes(1000))),
    "bomb.bmp": ({"bomb"}, huge_bmp),
    "bomb.gif": ({"bomb"}, huge_gif),
    "scans.jpg": ({"bomb"}, lambda: with_many_scans(SCANS + 1)),
    "float.tif": ({"unknown scale"}, lambda: encoded(noise(np.float32, 3000), "TIFF")),
    "negative.tif": ({"unknown scale"}, lambda: encoded(noise(np.int32, -9), "TIFF")),
    "really.jpg": ({"wrong ending"}, png),
    "really.png": ({"wrong ending"}, jpeg),
    "really.bmp": ({"wrong ending"}, lambda: encoded(picture(), "WEBP", lossless=True)),
    "moving.gif": ({"animated"}, lambda: frames("GIF")),
    "moving.png": ({"animated"}, lambda: frames("PNG")),
    "moving.webp": ({"animated"}, lambda: frames("WEBP")),
    "pages.tif": ({"animated"}, lambda: frames("TIFF")),
    "deep.png": ({"16-bit", "greyscale"}, lambda: png(noise(np.uint16, 65535))),
    "deep-colours.png": ({"16-bit"}, deep_colours),
    "deep.tif": ({"16-bit", "greyscale"}, lambda: encoded(noise(np.uint16, 65535), "TIFF")),
    "deep.pgm": ({"16-bit", "greyscale"}, lambda: b"P5 8 8 1023\n" + bytes([2, 77] * 64)),
    "deep.ppm": ({"16-bit"}, lambda: b"P6 8 8 65535\n" + GENERATOR.bytes(384)),
    "unit.tif": ({"16-bit", "greyscale"}, lambda: encoded(noise(np.float32, 1), "TIFF")),
    "alpha.png": ({"alpha"}, lambda: png(picture("RGBA"))),
    "alpha.webp": ({"alpha"}, lambda: encoded(picture("RGBA"), "WEBP", lossless=True)),
    "alpha.tif": ({"alpha"}, lambda: encoded(picture("RGBA"), "TIFF")),
    "grey-alpha.png": ({"alpha", "greyscale"}, lambda: png(picture("LA"))),
    "key.png": ({"alpha"}, lambda: png(transparency=(1, 2, 3))),
    "clear.png": ({"clear palette"}, lambda: clear_palette("PNG")),
    "clear.gif": ({"clear palette"}, lambda: clear_palette("GIF")),
    "ink.jpg": ({"CMYK"}, lambda: jpeg(picture("CMYK"))),
    "ink.tif": ({"CMYK"}, lambda: encoded(picture("CMYK"), "TIFF")),
    "lab.tif": ({"other colours"}, lambda: encoded(picture("LAB"), "TIFF")),
    "turned.jpg": ({"rotated"}, lambda: turned("JPEG")),
    "turned.png": ({"rotated"}, lambda: turned("PNG")),
    "turned.webp": ({"rotated"}, lambda: turned("WEBP")),
    "turned.tif": ({"rotated"}, lambda: turned("TIFF")),
    "exif.jpg": ({"damaged EXIF"}, with_damaged_exif),
    "wide-gamut.jpg": ({"colour profile"}, lambda: jpeg(icc_profile=profile("Display P3"))),
    "wide-gamut.png": ({"colour profile"}, lambda: png(icc_profile=profile("Adobe RGB (1998)"))),
    "no-profile.jpg": ({"colour profile"}, lambda: jpeg(icc_profile=b"\xff" * 200)),
    "grey.jpg": ({"greyscale"}, lambda: jpeg(picture("L"))),
    "bits.png": ({"greyscale"}, lambda: png(picture("L").convert("1"))),
    "bits.pbm": ({"greyscale"}, lambda: b"P4 16 8\n" + GENERATOR.bytes(16)),
    "point.png": ({"tiny"}, lambda: png(picture("RGB", 1, 1))),
    "thread.png": ({"tiny", "elongated"}, lambda: png(picture("RGB", 500, 3))),
    "panorama.jpg": ({"elongated"}, lambda: jpeg(picture("RGB", 90, 20))),
    "picture.heic": ({"other format"}, lambda: b"\0\0\0\x18ftypheic"),
    "drawing.svg": ({"other format"}, lambda: b"<svg/>"),
    "notes.txt": ({"no photo"}, lambda: b"x"),
    "no-ending": ({"no photo"}, jpeg),
    ".DS_Store": ({"hidden or junk"}, lambda: b"x"),
    "._fine.jpg": ({"hidden or junk"}, lambda: b"x"),
    "Thumbs.db": ({"hidden or junk"}, lambda: b"x"),
    "Case.PNG": (set(), png),
    "case.png": ({"names by case"}, png),
    # Ordinary, if not all alike: these are named with nothing.
    "scans-few.jpg": (set(), lambda: jpeg(progressive=True)),
    "standard.jpg": (set(), lambda: jpeg(icc_profile=STANDARD)),
    "upright.jpg": (set(), lambda: jpeg(exif=Image.Exif())),
    "still.gif": (set(), lambda: encoded(picture().quantize(16), "GIF")),
    "lossless.webp": (set(), lambda: encoded(picture(), "WEBP", lossless=True)),
    "colours.tif": (set(), lambda: encoded(picture(), "TIFF", compression="tiff_lzw")),
    "plain.bmp": (set(), lambda: encoded(picture(), "BMP")),
    "plain.ppm": (set(), lambda: encoded(picture(), "PPM")),
    "side.png": (set(), lambda: png(picture("RGB", 32, 8))),
}  # fmt: skip


def plain(root: Path, count: int = 3, classes: tuple[str, ...] = ("ant", "bee")) -> Path:
    """Class folders of photos with nothing odd about them."""
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / name / f"{number}.png").write_bytes(png())
    return root


@pytest.fixture
def odd(tmp_path: Path) -> tuple[Path, dict[str, set[str]]]:
    """A folder with every file of FILES, and links, pipes and folders; and what each is to be named with."""
    root = plain(tmp_path / "odd")
    ant = root / "ant"
    expected = {}
    for name, (kinds, make) in FILES.items():
        (ant / name).write_bytes(make())
        expected[f"ant/{name}"] = kinds
    with open(ant / "sparse.webp", "wb") as file:
        file.write(b"RIFF\xff\xff\xff\xffWEBPVP8 ")
        file.truncate((1 << 30) + 1)
    os.mkfifo(ant / "pipe.jpg")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "photo.png").write_bytes(png())
    (ant / "deeper" / ".ipynb_checkpoints").mkdir(parents=True)
    (ant / "deeper" / ".ipynb_checkpoints" / "copy.png").write_bytes(png())
    (root / "__MACOSX" / "ant").mkdir(parents=True)
    (root / "loose.png").write_bytes(png())
    links = {
        "gone.jpg": "nowhere.jpg",
        "round.jpg": "round.jpg",
        "endless.png": "/dev/zero",
        "linked.png": str(elsewhere / "photo.png"),
        "more": str(elsewhere),
        "lost": "nowhere",
    }
    for name, target in links.items():
        os.symlink(target, ant / name)
    return root, expected | {
        "ant/sparse.webp": {"bomb"},
        "ant/pipe.jpg": {"not a file"},
        "ant/gone.jpg": {"dangling link"},
        "ant/round.jpg": {"dangling link"},
        "ant/lost": {"dangling link"},
        "ant/endless.png": {"not a file", "outside link"},
        "ant/linked.png": {"outside link"},
        "ant/more": {"linked folder"},
        "ant/deeper/.ipynb_checkpoints": {"hidden or junk"},
        "__MACOSX": {"hidden or junk"},
        "loose.png": {"no photo"},
        "bee": {"imbalance"},
    }


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


def test_every_odd_file_is_named_with_its_kind_and_treated_by_its_policy(
    odd: tuple[Path, dict[str, set[str]]],
) -> None:
    root, expected = odd
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = folder(root, size=16, held_out=0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000, f"{grown} kB for files that are all small, or not to be opened"
    found: dict[str, set[str]] = {}
    for finding in data.findings:
        found.setdefault(finding.path, set()).add(finding.kind)
    assert found == {path: kinds for path, kinds in expected.items() if kinds}
    used = set(data.train.names or ())
    for path, kinds in expected.items():
        out = any(KINDS[kind].policy == "left out" for kind in kinds)
        assert (path in used) != out or path == "bee", f"{path}: {kinds}"
    # Every kind is told of in a sentence, with a file that is of it.
    for kind in set().union(*expected.values()):
        examples = [path for path, kinds in expected.items() if kind in kinds]
        assert any(path in note for path in examples for note in data.notes), kind


@pytest.mark.slow
def test_five_hundred_odd_images_are_named_before_the_first_epoch(tmp_path: Path) -> None:
    root = plain(tmp_path / "set")
    expected: dict[str, set[str]] = {}
    for number in range(trials(6)):
        for name, (kinds, make) in FILES.items():
            if kinds and not kinds & {"hidden or junk", "no photo", "names by case"}:
                path = root / "ant" / f"{number}-{name}"
                path.write_bytes(make())
                expected[f"ant/{path.name}"] = kinds
    assert len(expected) >= 80 * trials(6)
    data = folder(root, size=8, held_out=0)
    found: dict[str, set[str]] = {}
    for finding in data.findings:
        found.setdefault(finding.path, set()).add(finding.kind)
    # Small files without noise are equal in every round, which is named too.
    found = {path: kinds - {"duplicate", "imbalance"} for path, kinds in found.items()}
    assert {path: found.get(path, set()) for path in expected} == expected
    lost = sum(bool(kinds & UNREADABLE) for kinds in expected.values())
    assert any(note.startswith(f"{lost:,} of ") and "cannot be read" in note for note in data.notes)
    for kind in set().union(*expected.values()) - UNREADABLE:
        assert any(KINDS[kind].said in note for note in data.notes), kind


def test_check_names_all_that_a_run_would_and_refuses_nothing_more(
    odd: tuple[Path, dict[str, set[str]]], cache: Path
) -> None:
    root, expected = odd
    result = command(root, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    found: dict[str, set[str]] = {}
    for kind, entry in told["kinds"].items():
        assert entry["policy"] == KINDS[kind].policy
        assert entry["count"] == len(entry["files"])
        for file in entry["files"]:
            found.setdefault(file["path"], set()).add(kind)
    assert found == {path: kinds for path, kinds in expected.items() if kinds}
    assert told["refused"] == []
    assert told["images"]["train"] == len(folder(root, size=16, held_out=0).train)
    assert told["classes"]["bee"] == {"train": 3}
    # Without a size nothing is kept: what lies there is of folder's.
    assert [path.name.split("-")[1] for path in cache.glob("*.safetensors")] == ["16"]
    text = command(root)
    assert text.exit_code == 0
    rows = {line.split("  ")[0]: line for line in text.stdout.splitlines()}
    for kind, entry in told["kinds"].items():
        assert entry["files"][0]["path"] in rows[kind], kind
        assert f" {entry['count']} " in rows[kind]
    assert "checked" not in text.stdout
    assert text.stdout.rstrip().splitlines()[-1].startswith("nothing is refused (")


def test_files_that_cannot_be_read_are_refused_on_request(odd: tuple[Path, dict[str, set[str]]]) -> None:
    root, expected = odd
    unreadable = [path for path, kinds in expected.items() if kinds & UNREADABLE and path != "ant/lost"]
    with pytest.raises(DataError, match=f"^{len(unreadable)} of .* photos cannot be read: .*mend or remove"):
        folder(root, size=16, unreadable="refuse")


def test_of_an_animation_the_first_frame_is_used(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    for form, ending in (("GIF", "gif"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif")):
        path = tmp_path / f"a.{ending}"
        first.save(path, form, save_all=True, append_images=[second])
        found = read_photo(path, 4, squash=False)
        assert found.pixels is not None
        assert found.pixels[:, 1, 1].tolist() == pytest.approx([255, 0, 0], abs=3), form


def test_a_tiff_is_turned_once(tmp_path: Path) -> None:
    corner = Image.new("RGB", (16, 16))
    corner.paste("red", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for form, ending in (("TIFF", "tif"), ("PNG", "png"), ("WEBP", "webp")):
        path = tmp_path / f"a.{ending}"
        corner.save(path, form, exif=exif)
        found = read_photo(path, 16, squash=False)
        assert found.pixels is not None
        # Turned by a quarter, clockwise.
        assert found.pixels[0, 3, 12] > 200, form
        assert found.pixels[0, 3, 3] < 50, form


def test_scans_are_counted_as_a_decoder_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    decoy = b"\xff\xe1" + struct.pack(">H", 2 + 3 * 1000) + b"\xff\xda\0" * 1000
    whole = jpeg(progressive=True)
    # Neither what lies in a segment nor what follows the end is a scan.
    path.write_bytes(whole[:2] + decoy + whole[2:] + b"\xff\xda\0\x02" * 1000)
    assert read_photo(path, 8, squash=False).odd == ()
    path.write_bytes(whole[:2] + b"\xff\xe1\0\x06\xff\xc2\xff\xd9" + with_many_scans(SCANS + 1)[2:])
    assert read_photo(path, 8, squash=False).odd[0][0] == "bomb"
    path.write_bytes(with_many_scans(SCANS // 2))
    assert read_photo(path, 8, squash=False).pixels is not None


# Folders: what is done to a sound one, and the kind and path that it is named with.


def parts(root: Path) -> Path:
    """Train, val and test of two classes."""
    for part in ("train", "val", "test"):
        plain(root / part)
    return root


Change = Callable[[Path], None]


def added(name: str, count: int) -> Change:
    """A class folder of so many photos."""
    return lambda root: void(plain(root / Path(name).parent, count, (Path(name).name,)))


def removed(*names: str) -> Change:
    return lambda root: void(*(shutil.rmtree(root / name) for name in names))


def renamed(*names: str, to: Callable[[str], str]) -> Change:
    return lambda root: void(
        *((root / name).rename((root / name).with_name(to(Path(name).name))) for name in names)
    )


def copied(source: str, target: str) -> Change:
    """The same picture, stored again where the ending is another one."""
    return lambda root: Image.open(root / source).save(root / target)


def emptied(pattern: str) -> Change:
    return lambda root: void(*(path.unlink() for path in root.glob(pattern)))


def spoilt(pattern: str) -> Change:
    return lambda root: void(*(path.write_bytes(b"x") for path in root.glob(pattern)))


def annotated(lines: str) -> Change:
    """Validation images as Tiny-ImageNet has them."""

    def change(root: Path) -> None:
        shutil.rmtree(root / "val")
        (root / "val" / "images").mkdir(parents=True)
        (root / "val" / "images" / "v.png").write_bytes(png())
        (root / "val" / "val_annotations.txt").write_text(lines)

    return change


def linked(root: Path) -> None:
    os.symlink(plain(root.parent / "elsewhere", 2, ("cat",)) / "cat", root / "train" / "cat")


def unlabelled(root: Path) -> None:
    removed("test")(root)
    added("test/images", 2)(root)


def vehicles(root: Path) -> None:
    removed("train", "val", "test")(root)
    plain(root, 5, ("bus", "train"))


def only_text(root: Path) -> None:
    added("train/cat", 0)(root)
    (root / "train" / "cat" / "a.txt").write_text("x")


def void(*done: object) -> None:
    """What was done for its effect."""


REFUSED: dict[str, tuple[str, str, Change]] = {
    "no train": ("no train", ".", removed("train")),
    "two vals": ("doubled part", "valid", added("valid/ant", 1)),
    "two trains": ("doubled part", "train", added("Train/ant", 1)),
    "one class": ("one class", "train", removed("train/bee", "val/bee", "test/bee")),
    "no class": ("one class", "train", removed("train/ant", "train/bee")),
    "empty class": ("empty class", "train/cat", added("train/cat", 0)),
    "class of text": ("empty class", "train/cat", only_text),
    "extra in val": ("extra class", "val/cat", added("val/cat", 1)),
    "extra in test": ("extra class", "test/cat", added("test/cat", 1)),
    "case in train": ("class clash", "train/ant", added("train/Ant", 2)),
    "case in val": ("class clash", "val/Ant", renamed("val/ant", to=str.title)),
    "case in all of val": ("class clash", "val/BEE", renamed("val/ant", "val/bee", to=str.upper)),
    "blank": ("class clash", "train/bee", added("train/ bee", 2)),
    "wrong annotation": ("unknown label", "val/val_annotations.txt", annotated("v.png\twasp\n")),
    "nothing readable": ("unreadable class", "bee", spoilt("train/bee/*")),
    "train or class": (
        "part or class",
        "train",
        lambda root: void(removed("val", "test")(root), added("bus", 2)(root)),
    ),
    "parts in a class": (
        "parts within",
        "train/ant",
        lambda root: void(added("train/ant/train", 2)(root), added("train/ant/test", 2)(root)),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_folders_that_cannot_be_meant_so_are_refused_by_name(tmp_path: Path, case: str) -> None:
    kind, path, change = REFUSED[case]
    root = parts(tmp_path / "set")
    assert inspect(root).refused == ()
    change(root)
    with pytest.raises(DataError) as refusal:
        folder(root, size=8)
    found = inspect(root)
    assert (kind, path) in {(finding.kind, finding.path) for finding in found.findings}
    assert str(refusal.value).startswith(found.refused[0])
    result = command(root)
    assert result.exit_code == 2, result.output
    assert path in result.stdout
    assert f"refused: {found.refused[0]}" in result.stdout.splitlines()
    assert json.loads(command(root, "--json").stdout)["kinds"][kind]["policy"] == "refused"


def test_all_refusals_are_told_and_not_the_first_alone(tmp_path: Path) -> None:
    root = parts(tmp_path / "set")
    plain(root / "val", 1, ("cat", "dog"))
    (root / "train" / "eel").mkdir()
    with pytest.raises(DataError, match=r"'cat' .*\(and 2 more like it: `budgetnet check` names them\)"):
        folder(root, size=8)
    found = inspect(root)
    refused = [finding.path for finding in found.findings if finding.policy == "refused"]
    assert refused == ["val/cat", "val/dog", "train/eel"]
    assert len(found.refused) == 3


def test_accents_may_be_encoded_in_two_ways_and_are_one_name(tmp_path: Path) -> None:
    root = plain(tmp_path / "set", 1, ("\u00e9", "e\u0301", "bee"))
    with pytest.raises(DataError, match="differ in case alone"):
        folder(root, size=8)


NOTED: dict[str, tuple[str, str, Change]] = {
    "no folder in val": ("missing class", "bee", removed("val/bee")),
    "empty folder in test": ("missing class", "ant", emptied("test/ant/*")),
    "nothing readable in val": ("missing class", "ant", spoilt("val/ant/*")),
    "all of val empty": ("missing class", "bee", emptied("val/*/*")),
    "imbalance": ("imbalance", "ant", added("train/bee", 30)),
    "twice in a class": ("duplicate", "train/ant/9.png", copied("train/ant/0.png", "train/ant/9.png")),
    "twice in two formats": ("duplicate", "train/ant/9.bmp", copied("train/ant/0.png", "train/ant/9.bmp")),
    "two labels": ("two labels", "train/bee/9.png", copied("train/ant/0.png", "train/bee/9.png")),
    "labels across": ("two labels", "test/bee/9.png", copied("train/ant/0.png", "test/bee/9.png")),
    "train in test": ("in two splits", "test/ant/9.png", copied("train/ant/0.png", "test/ant/9.png")),
    "val in test": ("in two splits", "test/ant/9.png", copied("val/ant/0.png", "test/ant/9.png")),
    "no labels in test": ("unlabelled part", "test", unlabelled),
    "annotated and absent": ("absent", "w.png", annotated("v.png\tant\nw.png\tbee\n")),
    "not annotated": ("no photo", "val/images/v.png", annotated("u.png\tant\n")),
    "linked class": ("outside link", "train/cat", linked),
    "a folder beside parts": ("no part", "more", added("more/ant", 2)),
    "a train among vehicles": ("part as class", "train", vehicles),
    "days and nights": (
        "equal within",
        "train/ant",
        lambda root: void(
            *(added(f"train/{name}", 1)(root) for name in ("ant/day", "ant/night", "bee/day", "bee/night"))
        ),
    ),
}


@pytest.mark.parametrize("case", NOTED)
def test_sets_that_say_less_than_they_seem_are_used_and_named(tmp_path: Path, case: str) -> None:
    kind, path, change = NOTED[case]
    root = parts(tmp_path / "set")
    assert folder(root, size=32).findings == ()
    change(root)
    data = folder(root, size=32)
    assert (kind, path) in {(finding.kind, finding.path) for finding in data.findings}
    said = "occur" if kind == "in two splits" else KINDS[kind].said
    assert any(said in note for note in data.notes), data.notes
    result = command(root)
    assert result.exit_code == 0, result.output
    row = next(line for line in result.stdout.splitlines() if line.startswith(f"{kind}  "))
    assert path in row


def test_every_kind_of_the_table_is_tried_here(odd: tuple[Path, dict[str, set[str]]]) -> None:
    tried = set().union(*odd[1].values(), *({kind} for kind, _, _ in (*REFUSED.values(), *NOTED.values())))
    tables = {
        "outside",
        "unclear name",
        "no label",
        "contradiction",
        "not named",
        "doubled row",
        "other encoding",
        "measurement",
        "one each",
    }
    assert tried | tables | {"unreadable"} == set(KINDS)  # those of tables in test_data_table.py
    assert len(odd[1]) + len(REFUSED) + len(NOTED) > 100


def test_a_photo_that_is_gone_or_kept_back_when_it_is_its_turn_is_named(tmp_path: Path) -> None:
    assert read_photo(tmp_path / "a.jpg", 8, squash=False).odd == (
        ("unreadable", "No such file or directory"),
    )
    (tmp_path / "b.jpg").write_bytes(jpeg())
    (tmp_path / "b.jpg").chmod(0)
    if os.geteuid() != 0:
        assert read_photo(tmp_path / "b.jpg", 8, squash=False).odd == (("unreadable", "Permission denied"),)


def test_links_that_lead_round_in_circles_end(tmp_path: Path) -> None:
    root = plain(tmp_path / "set")
    os.symlink(root, root / "ant" / "again")
    os.symlink(root, root / "cat")
    found = inspect(root)
    kinds = Counter(finding.kind for finding in found.findings if finding.kind != "missing class")
    assert kinds == {"linked folder": 3, "two labels": 6}
    assert found.classes == ("ant", "bee", "cat")


def test_folders_may_be_nested_deeper_than_python_calls(tmp_path: Path) -> None:
    root = plain(tmp_path / "set", 1)
    here = os.getcwd()
    os.chdir(root / "ant")
    try:
        for _ in range(1100):
            os.mkdir("d")
            os.chdir("d")
        Path("deep.png").write_bytes(png())
        os.chdir(here)
        assert len(folder(root, size=8, held_out=0).train) == 3
    finally:
        os.chdir(here)
        # Python's own rmtree calls itself, and pytest's cleaning up would fail.
        subprocess.run(["rm", "-rf", root], check=True)


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    root = plain(tmp_path / "set")
    (root / "ant" / "\x1b[2J\n.jpg").write_bytes(b"x")
    for text in (command(root).stdout, "".join(folder(root, size=8).notes)):
        assert "\x1b" not in text
        assert "ant/\\x1b[2J\\n.jpg (not an image)" in text


# The command.


def test_with_a_size_the_store_of_a_run_is_filled(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = plain(tmp_path / "set")
    assert command(root, "--size", "24", "--shape", "squash").exit_code == 0
    capfd.readouterr()
    folder(root, size=24, shape="squash")
    assert capfd.readouterr().err == ""
    folder(root, size=24)
    assert "storing 6 photos" in capfd.readouterr().err


def test_a_recipes_data_are_checked_without_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plain(tmp_path / "set", 5)
    (root / "ant" / "cut.jpg").write_bytes(half(jpeg(picture(width=99, height=99))))
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from budgetnet import Phase, Recipe, folder, models\n"
        "def model(): return models.convnet(2)\n"
        f"def data(size=16): return folder({str(root)!r}, size=size)\n"
        "recipe = Recipe([Phase(epochs=1, resolution=16, lr=0.1)])\n"
    )
    result = command(recipe, "--set", "data.size=24")
    assert result.exit_code == 0, result.output
    assert "set: 8 train, 2 val, 2 classes" in result.stdout
    assert "truncated" in result.stdout
    assert "ant/cut.jpg" in result.stdout
    assert "note:" not in result.stdout
    (root / "bee" / "more").mkdir()
    plain(root, 0, ("cat",))
    result = command(recipe)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "holds no photos" in result.stderr
    monkeypatch.chdir(tmp_path)
    result = command("fixres_stl10")
    assert result.exit_code == 1
    assert "is not there" in result.stderr


def test_loaded_arrays_are_looked_at_too() -> None:
    images = GENERATOR.integers(256, size=(24, 4, 4, 3), dtype=np.uint8)
    images[5], images[23] = images[2], images[3]
    data = arrays(images[:22], [0, 1] * 11, val=(images[22:], [0, 1]), classes=("ant", "bee"))
    found = inspect(data)
    assert [str(finding) for finding in found.findings] == [
        "train[5] (= train[2] of class 'ant')",
        "val[1] (= train[3] of train)",
    ]
    assert found.counts == {"train": (11, 11), "val": (1, 1)}
    assert found.notes == ()


def test_a_folder_is_looked_for_among_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain(tmp_path / "data" / "set")
    assert command("set", "--data", tmp_path / "data").exit_code == 0
    monkeypatch.setenv("BUDGETNET_DATA", str(tmp_path / "data"))
    assert command("set").exit_code == 0


def test_what_cannot_be_checked_is_a_sentence(tmp_path: Path) -> None:
    for arguments, said in (
        ((tmp_path / "nowhere",), "there is neither a folder of photos nor a recipe"),
        ((f"{tmp_path}/nowhere/",), "is not there: name the folder"),
        ((), "name a folder of photos or a recipe"),
    ):
        result = command(*arguments)
        assert result.exit_code == 2
        assert said in result.stderr
        assert "Traceback" not in result.output
    for options in ({"size": 0}, {"shape": "fit"}):
        with pytest.raises(DataError, match=r"size should be|shape should be"):
            inspect(tmp_path, **options)  # type: ignore[arg-type]


def test_the_table_is_what_the_command_prints_and_the_page_shows() -> None:
    printed = command("--policies").stdout
    assert printed == policies() + "\n"
    assert len(printed.splitlines()) == len(TABLE) + 1 >= 41
    page = Path(__file__).parent.parent / "docs" / "data.md"
    assert policies() in page.read_text(encoding="utf-8")
    assert {kind.policy for kind in TABLE} == {"refused", "left out", "used"}
    assert all(KINDS[name].policy == "left out" for name in UNREADABLE)


def test_many_of_a_kind_are_one_sentence(tmp_path: Path) -> None:
    root = plain(tmp_path / "set")
    for number in range(5):
        (root / "ant" / f"g{number}.jpg").write_bytes(jpeg(picture("L")))
    (note,) = folder(root, size=8).notes
    names = "ant/g0.jpg, ant/g1.jpg, ant/g2.jpg, ..."
    assert note == f"5 photos without colours ({names}): three equal channels"
    assert note in sentences(inspect(root).findings)


# Files changed at random.


def mutated(whole: bytes, generator: np.random.Generator) -> bytes:
    """Flip bits, cut, zero, double, or insert a stretch."""
    changed = bytearray(whole)
    for _ in range(int(generator.integers(1, 4))):
        place = int(generator.integers(len(changed)))
        length = int(generator.integers(1, 20))
        way = int(generator.integers(6))
        if way <= 1:
            changed[place] ^= 1 << int(generator.integers(8))
        elif way == 2:
            del changed[max(1, place) :]
        elif way == 3:
            changed[place : place + length] = bytes(len(changed[place : place + length]))
        elif way == 4:
            changed[place:place] = changed[place : place + length]
        else:
            changed[place : place + length] = generator.bytes(length)
    return bytes(changed)


def loads(path: Path) -> bool:
    """Whether Pillow by itself reads the pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=tuple(FORMATS)) as image:
                image.convert("RGB")
        except Exception:
            return False
    return True


@pytest.mark.parametrize(
    ("count", "seed"), [(200, 0), *(pytest.param(500, seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_a_mutated_file_is_an_image_or_is_named(tmp_path: Path, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    root = plain(tmp_path / "set")
    makers = [(name, make()) for name, (_, make) in FILES.items() if Path(name).suffix in {
        ".jpg", ".png", ".gif", ".webp", ".tif", ".bmp", ".ppm", ".pgm", ".pbm"
    }]  # fmt: skip
    # Pillow reads a palette that is not there as grey: we do not.
    sound = [(name, whole) for name, whole in makers if len(whole) > 60 and name != "no-palette.png"]
    for number in range(count):
        name, whole = sound[number % len(sound)]
        (root / "ant" / f"{number:03}-{name}").write_bytes(mutated(whole, generator))
    data = folder(root, size=8, held_out=0)
    named = {finding.path: finding for finding in data.findings if finding.kind in UNREADABLE}
    used = set(data.train.names or ())
    paths = {f"ant/{path.name}" for path in (root / "ant").iterdir()}
    assert used | set(named) == paths | {f"bee/{number}.png" for number in range(3)}
    assert not used & set(named)
    assert len(named) > count / 5
    assert len(used) > count / 5
    for path in paths:
        if path in used:
            assert loads(root / path), f"{path} was read, and Pillow cannot"
        elif loads(root / path):
            assert named[path].kind in ("bomb", "unknown scale"), f"{named[path]}: Pillow reads it"
