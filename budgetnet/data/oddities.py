"""What is odd about a photo file: what it may ask for, what its header says, and why it cannot be read."""

import contextlib
import mmap
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from budgetnet.data.walk import FORMATS
from budgetnet.process import flags

# A photo at Pillow's limit of pixels, with four channels of 16 bits, not compressed, has 0.7 GB.
BYTES = 1 << 30
# Encoders write some ten scans; each one costs a decoder a pass over all pixels, and an attacker ten bytes.
SCANS = 100
SEGMENTS = 10_000
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")
GREY = ("1", "L", "LA", "La", "F", *DEEP)
ORIENTATION = 0x0112
TINY, LONG = 8, 4
# Profiles that say what is taken for granted without one; "c2" is Facebook's small sRGB.
PLAIN = ("srgb", "sgray", "gray gamma 2.2", "grey gamma 2.2", "c2")
# How the formats begin, and how they end where they have an end.
BEGINNINGS = {
    b"\xff\xd8\xff": b"\xff\xd9",
    b"\x89PNG\r\n\x1a\n": b"IEND\xaeB`\x82",
    b"GIF87a": b";",
    b"GIF89a": b";",
    b"BM": b"",
    b"RIFF": b"",
    b"II*\0": b"",
    b"MM\0*": b"",
}
OTHERS = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"%pdf", "a PDF"),
    (b"<svg", "an SVG"),
    (b"<?xml", "XML"),
    (b"pk\x03\x04", "a zip archive"),
    (b"{", "JSON"),
)


class Unfit(Exception):
    """Why a file gives no image: the kind (of `kinds`), and details in words."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def opened(path: Path) -> IO[bytes]:
    """Return a photo's file, open for reading. Raises `Unfit` for what is no file, empty or too large.

    Raises OSError for what the system refuses.
    """
    try:
        status = os.stat(path)
    except OSError:
        if os.path.islink(path):
            raise Unfit("dangling link", "a link that leads nowhere") from None
        raise
    if not stat.S_ISREG(status.st_mode):
        # A pipe would be waited for without end, and a device may never end.
        raise Unfit("not a file", f"{_sort(status.st_mode)} instead of a file")
    if status.st_size == 0:
        raise Unfit("empty", "empty")
    if status.st_size > BYTES:
        raise Unfit("bomb", f"{status.st_size:,} bytes are more than the limit of {BYTES:,}")
    return os.fdopen(os.open(path, os.O_RDONLY | flags("O_NONBLOCK", "O_CLOEXEC")), "rb")


def bound(image: Image.Image, file: IO[bytes]) -> None:
    """Refuse an image of which only the header was read. Raises `Unfit` for too many pixels or scans."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        size = f"{image.width}x{image.height} pixels"
        raise Unfit("bomb", f"{size} are more than Pillow's limit of {most:,}")
    if image.info.get("progressive"):
        position = file.tell()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _scans(data)
        file.seek(position)


def _scans(data: mmap.mmap) -> None:
    """Walk the markers of a JPEG up to its end. Raises `Unfit` for more scans than any encoder writes."""
    # In coded data FF is followed by 0 or by the number of a restart, and FF may be repeated as padding.
    marker = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
    position, scans = 2, 0
    for _ in range(SEGMENTS):
        match = marker.search(data, position)
        if match is None or match[1] == b"\xd9":
            return
        position = match.end()
        scans += match[1] == b"\xda"
        if scans > SCANS:
            raise Unfit("bomb", f"more than {SCANS} scans, each a pass over all pixels")
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
    raise Unfit("bomb", f"more than {SEGMENTS:,} segments")


def _sort(mode: int) -> str:
    """Return in words what it is instead of a regular file."""
    sorts = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
    return next((name for test, name in sorts if test(mode)), "a device")


def oddities(image: Image.Image, path: Path) -> Iterator[tuple[str, str]]:
    """Yield the kinds (of `kinds`) and details of what is odd about an image whose pixels were not read."""
    form = image.format or "?"
    if path.suffix.lower() not in FORMATS.get("JPEG" if form == "MPO" else form, ()):
        yield "wrong ending", f"{form} inside"
    bits = _deep(image)
    if bits:
        yield "16-bit", bits
    if image.mode in ("P", "PA") and image.has_transparency_data:
        yield "clear palette", ""
    elif image.has_transparency_data:
        yield "alpha", image.mode
    if image.mode == "CMYK":
        yield "CMYK", ""
    elif image.mode in ("LAB", "YCbCr", "HSV"):
        yield "other colours", image.mode
    profile = image.info.get("icc_profile")
    if image.mode != "CMYK" and isinstance(profile, bytes) and profile:
        name = profile_name(profile)
        if not any(plain in name.lower() for plain in PLAIN):
            yield "colour profile", name or "damaged"
    if image.mode in GREY:
        yield "greyscale", image.mode
    sides = f"{image.width}x{image.height}"
    if min(image.size) < TINY:
        yield "tiny", sides
    if max(image.size) > LONG * min(image.size):
        yield "elongated", sides


def orientation(image: Image.Image) -> int | None:
    """Return the orientation that EXIF states, 1 where it states none, or None where it cannot be read."""
    block = image.info.get("exif")
    if isinstance(block, bytes) and block.removeprefix(b"Exif\0\0")[:2] not in (b"II", b"MM", b""):
        # Pillow tells only the first who asks, which is itself.
        return None
    try:
        stated = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Damaged metadata bring up whatever they like, as damaged pixels do.
        return None
    return stated if isinstance(stated, int) else 1


def animated(image: Image.Image) -> bool:
    """Whether more frames follow. Pixels are lost by asking."""
    with contextlib.suppress(Exception):
        # MPO is a JPEG with a preview or a second view, as telephones write it.
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    return False


def _deep(image: Image.Image) -> str:
    """Return how deep the pixels are where they have more than 8 bits, else nothing."""
    if image.mode in DEEP or image.mode == "F":
        return image.mode
    # Pillow opens 16-bit colours as 8-bit ones, and only its decoder's arguments tell.
    for tile in image.tile[:1] if hasattr(image, "tile") else ():
        for argument in tile[3] if isinstance(tile[3], tuple) else (tile[3],):
            if isinstance(argument, str) and ";16" in argument:
                return argument
            if image.format == "PPM" and isinstance(argument, int) and argument > 255:
                return f"up to {argument}"
    return ""


def profile_name(profile: bytes) -> str:
    """Return the name that an ICC profile gives itself, or nothing where it is damaged.

    Reference: https://www.color.org/icc1v42.pdf, 7.3 and 10.13.
    """
    count = int.from_bytes(profile[128:132], "big")
    for k in range(min(count, 100)):
        entry = profile[132 + 12 * k : 144 + 12 * k]
        if entry[:4] != b"desc" or len(entry) < 12:
            continue
        start, size = int.from_bytes(entry[4:8], "big"), int.from_bytes(entry[8:12], "big")
        text = profile[start : start + size]
        if text[:4] == b"mluc":
            length, at = int.from_bytes(text[20:24], "big"), int.from_bytes(text[24:28], "big")
            return text[at : at + min(length, 128)].decode("utf-16-be", "replace").strip("\0 ")
        length = int.from_bytes(text[8:12], "big")
        return text[12 : 12 + min(length, 64)].decode("latin-1").strip("\0 ")
    return ""


def failure(path: Path, error: Exception) -> tuple[str, str]:
    """Return the kind and the details of what came up when a file was read."""
    if isinstance(error, Unfit):
        return error.kind, str(error)
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    detail = text.splitlines()[0][:200]
    if isinstance(error, OSError) and error.errno is not None:
        return "unreadable", detail
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "bomb", detail
    if isinstance(error, MemoryError):
        return "unreadable", "more memory than there is"
    try:
        with path.open("rb") as file:
            head = file.read(64)
            file.seek(0, os.SEEK_END)
            size = file.tell()
            file.seek(max(0, size - 16))
            tail = file.read()
    except OSError as gone:
        return "unreadable", gone.strerror or "gone"
    ends = next((end for begin, end in BEGINNINGS.items() if head.startswith(begin)), None)
    if isinstance(error, UnidentifiedImageError):
        if ends is None:
            return "not an image", _something_else(head)
        detail = "its header cannot be read"
    cut = "truncat" in detail.lower() or (ends is not None and _cut(head, tail, size, ends))
    if not cut:
        return "damaged", detail if "damaged" in detail else f"damaged: {detail}"
    return "truncated", f"truncated after {size:,} bytes"


def _cut(head: bytes, tail: bytes, size: int, ends: bytes) -> bool:
    """Whether a file lacks its end, or the length that its header states."""
    if head.startswith(b"RIFF"):
        return int.from_bytes(head[4:8], "little") + 8 > size
    if head.startswith(b"BM"):
        return int.from_bytes(head[2:6], "little") > size
    return bool(ends) and ends not in tail


def _something_else(head: bytes) -> str:
    """Return "not an image", and what it is instead where its first bytes tell."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for begin, name in OTHERS:
        if start.startswith(begin):
            return f"not an image but {name}"
    if head[4:8] == b"ftyp" and head[8:12].isalnum():
        return f"not an image but {head[8:12].decode('ascii').strip().upper()}"
    return "not an image"
