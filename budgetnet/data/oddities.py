"""What is odd about an image that was opened, from its header; and why a file could not be read."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from budgetnet.data.bounds import Unfit

ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm"),
}
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


def oddities(image: Image.Image, path: Path) -> Iterator[tuple[str, str]]:
    """Yield the kinds (of `kinds`) and details of what is odd about an image whose pixels were not read."""
    form = image.format or "?"
    if path.suffix.lower() not in ENDINGS.get(form, ()):
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
        return "bomb", "more memory than there is"
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
