"""One photo file of any size and mode as square RGB pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

# Named, because Pillow would start Ghostscript on a file that only calls itself .jpg.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def photo(path: Path, size: int, *, squash: bool) -> npt.NDArray[np.uint8] | str:
    """Return the photo as uint8 (3, size, size), or the reason why it cannot be read.

    Its orientation as stated by EXIF is applied. The largest square at its centre, or with `squash` all of
    it, is read bilinearly with antialias. What is transparent comes out white; 16-bit greys are scaled to 8
    bits.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            most = Image.MAX_IMAGE_PIXELS
            if most is not None and image.width * image.height > most:
                return f"{image.width}x{image.height} pixels are more than Pillow's limit of {most:,}"
            # A JPEG of many megapixels is decoded at a half, a quarter or an eighth, still twice what is
            # needed.
            image.draft(None, (2 * size, 2 * size))
            upright = _rgb(ImageOps.exif_transpose(image))
        side = min(upright.size)
        left, top = (upright.width - side) / 2, (upright.height - side) / 2
        box = None if squash else (left, top, left + side, top + side)
        square = upright.resize((size, size), Image.Resampling.BILINEAR, box=box)
        return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))
    except UnidentifiedImageError:
        return "not an image"
    except Exception as error:  # Decoders answer damaged bytes with whatever comes up.
        return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


def _rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as RGB."""
    if image.mode in DEEP or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return greys of 16 bits, or floats in [0, 1], as 8 bits."""
    most = 1.0 if values.dtype.kind == "f" else 65535.0
    if not (values.min() >= 0 and values.max() <= most):
        raise ValueError(f"greys of {values.min():g} ... {values.max():g} instead of 0 ... {most:g}")
    return np.rint(values.astype(np.float64) * (255 / most)).astype(np.uint8)
