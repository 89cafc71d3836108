"""How much a photo file may ask for: bytes, pixels and scans, looked at before memory or time is spent."""

import mmap
import os
import re
import stat
from pathlib import Path
from typing import IO

from PIL import Image

# A photo at Pillow's limit of pixels, with four channels of 16 bits, not compressed, has 0.7 GB.
BYTES = 1 << 30
# Encoders write some ten scans; each one costs a decoder a pass over all pixels, and an attacker ten bytes.
SCANS = 100
SEGMENTS = 10_000


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
        found = os.stat(path)
    except OSError:
        if os.path.islink(path):
            raise Unfit("dangling link", "a link that leads nowhere") from None
        raise
    if not stat.S_ISREG(found.st_mode):
        # A pipe would be waited for without end, and a device may never end.
        raise Unfit("not a file", f"{_sort(found.st_mode)} instead of a file")
    if found.st_size == 0:
        raise Unfit("empty", "empty")
    if found.st_size > BYTES:
        raise Unfit("bomb", f"{found.st_size:,} bytes are more than the limit of {BYTES:,}")
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def bound(image: Image.Image, file: IO[bytes]) -> None:
    """Refuse an image of which only the header was read. Raises `Unfit` for too many pixels or scans."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        found = f"{image.width}x{image.height} pixels"
        raise Unfit("bomb", f"{found} are more than Pillow's limit of {most:,}")
    if image.info.get("progressive"):
        place = file.tell()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _scans(data)
        file.seek(place)


def _scans(data: mmap.mmap) -> None:
    """Walk the markers of a JPEG up to its end. Raises `Unfit` for more scans than any encoder writes."""
    # In coded data FF is followed by 0 or by the number of a restart, and FF may be repeated as padding.
    marker = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
    place, scans = 2, 0
    for _ in range(SEGMENTS):
        found = marker.search(data, place)
        if found is None or found[1] == b"\xd9":
            return
        place = found.end()
        scans += found[1] == b"\xda"
        if scans > SCANS:
            raise Unfit("bomb", f"more than {SCANS} scans, each a pass over all pixels")
        place += max(2, int.from_bytes(data[place : place + 2], "big"))
    raise Unfit("bomb", f"more than {SEGMENTS:,} segments")


def _sort(mode: int) -> str:
    """Return what is no regular file in words."""
    sorts = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
    return next((name for test, name in sorts if test(mode)), "a device")
