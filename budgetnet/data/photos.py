"""One photo file of any size and mode as square RGB pixels, and what is odd about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from budgetnet.data.oddities import DEEP, Unfit, animated, bound, failure, oddities, opened, orientation

# Named, because Pillow would start Ghostscript on a file that only calls itself .jpg.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# What brings an image upright, by what EXIF states of it.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Read:
    """A photo's pixels uint8 (3, H, W), or None; and the kinds and details of what is odd about it."""

    pixels: npt.NDArray[np.uint8] | None
    odd: tuple[tuple[str, str], ...]


def read_photo(path: Path, size: int | Size, *, squash: bool) -> Read:
    """Return the photo as uint8 (3, *size), or why there is none, whatever the file holds.

    `size` is (height, width), or the side of a square. Its orientation as stated by EXIF is applied. The
    largest part at its centre that has the sides' ratio, or with `squash` all of it, is read bilinearly with
    antialias. What is transparent comes out white; 16-bit greys are scaled to 8 bits; of an animation the
    first frame is read.
    """
    try:
        return _read(path, (size, size) if isinstance(size, int) else size, squash)
    except Exception as error:  # Decoders answer damaged bytes with whatever comes up.
        return Read(None, (failure(path, error),))


def _read(path: Path, size: Size, squash: bool) -> Read:
    height, width = size
    with opened(path) as file, Image.open(file, formats=FORMATS) as image:
        bound(image, file)
        odd = list(oddities(image, path))
        # A JPEG of many megapixels is decoded at a half, a quarter or an eighth, still twice what is needed.
        image.draft(None, (2 * width, 2 * height))
        # Pillow turns a TIFF as it reads it. Of a PNG it reads the pixels to find EXIF behind them: there it
        # must not be asked first, or pixels that break off would pass for damaged EXIF.
        before = orientation(image) if image.format == "TIFF" else 1
        image.load()
        after = orientation(image)
        stated = after if before == 1 else before
        if before is None or after is None:
            odd.append(("damaged EXIF", ""))
        elif stated in TURNS:
            odd.append(("rotated", f"orientation {stated}"))
        turn = TURNS.get(after or 1)
        upright = _rgb(image if turn is None else image.transpose(turn))
        if animated(image):
            odd.append(("animated", image.format or ""))
    box = None if squash else _central(upright.size, width, height)
    shown = upright.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return Read(np.ascontiguousarray(np.asarray(shown).transpose(2, 0, 1)), tuple(odd))


def _central(size: tuple[int, int], width: int, height: int) -> tuple[float, float, float, float]:
    """The largest box at the centre of an image of `size` whose sides are as `width` to `height`."""
    across, down = min(size[0], size[1] * width / height), min(size[1], size[0] * height / width)
    left, top = (size[0] - across) / 2, (size[1] - down) / 2
    return left, top, left + across, top + down


def _rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as RGB, never the image itself."""
    if image.mode in DEEP or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return greys of 16 bits, or floats in [0, 1], as 8 bits. Raises `Unfit` for other ranges."""
    most = 1.0 if values.dtype.kind == "f" else 65535.0
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= most):
        raise Unfit("unknown scale", f"greys of {low:g} ... {high:g} instead of 0 ... {most:g}")
    return np.rint(values.astype(np.float64) * (255 / most)).astype(np.uint8)
