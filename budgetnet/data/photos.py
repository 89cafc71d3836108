"""Photos of any size and mode as square pixels, decoded once in threads and stored in one file."""

import hashlib
import json
import math
import os
import re
import secrets
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open

from budgetnet.data import known
from budgetnet.data.disk import File as Images
from budgetnet.data.disk import OnDisk
from budgetnet.data.kinds import KINDS, UNREADABLE, DataError, Finding
from budgetnet.data.listing import File
from budgetnet.data.oddities import DEEP, Unfit, animated, bound, failure, oddities, opened, orientation
from budgetnet.data.progress import Progress
from budgetnet.data.walk import FORMATS
from budgetnet.process import cores

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
# What a grey is of red, green and blue: Rec. 601, as Pillow and torchvision make it.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Part of the key: raised whenever the same photos would come out with other pixels.
VERSION = 2
# Room for the header, which is written last, when it is known how many photos could be read.
HEADER = 1024

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Read:
    """A photo's pixels uint8 (C, H, W), or None; and the kinds and details of what is odd about it."""

    pixels: npt.NDArray[np.uint8] | None
    odd: tuple[tuple[str, str], ...]


def read_photo(path: Path, size: int | Size, *, squash: bool, channels: int = 3) -> Read:
    """Return the photo as uint8 (channels, *size), or why there is none, whatever the file holds.

    One channel is 0.299 R + 0.587 G + 0.114 B of the three. `size` is (height, width), or the side of a
    square. Its orientation as stated by EXIF is applied. The largest part at its centre that has the sides'
    ratio, or with `squash` all of it, is read bilinearly with
    antialias. What is transparent comes out white; 16-bit greys are scaled to 8 bits; of an animation the
    first frame is read.
    """
    try:
        read = _read(path, (size, size) if isinstance(size, int) else size, squash)
        return read if channels != 1 or read.pixels is None else Read(_grey(read.pixels), read.odd)
    except Exception as error:  # Decoders answer damaged bytes with whatever comes up.
        return Read(None, (failure(path, error),))


def _read(path: Path, size: Size, squash: bool) -> Read:
    height, width = size
    with opened(path) as file, Image.open(file, formats=tuple(FORMATS)) as image:
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
    return Read(_fitted(upright, size, squash), tuple(odd))


def _fitted(image: Image.Image, size: Size, squash: bool) -> npt.NDArray[np.uint8]:
    """Return an image as uint8 (C, *size), all of it or the largest part at its centre."""
    sides, bilinear = (size[1], size[0]), Image.Resampling.BILINEAR
    if image.size != sides:
        image = image.resize(sides, bilinear) if squash else ImageOps.fit(image, sides, bilinear)
    values = np.asarray(image)
    return np.ascontiguousarray(values.transpose(2, 0, 1) if values.ndim == 3 else values[None])


def photo_pixels(image: Image.Image, size: Size | None, *, squash: bool, grey: bool) -> npt.NDArray[np.uint8]:
    """Return an opened photo as `read_photo` reads a file: uint8 (3 or 1, *size), or of its own size."""
    turn = TURNS.get(orientation(image) or 1)
    upright = _rgb(image if turn is None else image.transpose(turn))
    values = _fitted(upright, size or (upright.height, upright.width), squash)
    return _grey(values) if grey else values


def fitted_pixels(pixels: npt.NDArray[np.uint8], size: Size, *, squash: bool) -> npt.NDArray[np.uint8]:
    """Return uint8 (C, H, W), of any number of channels, at a size, as `read_photo` brings photos to it."""
    return np.concatenate([_fitted(Image.fromarray(channel), size, squash) for channel in pixels])


def _rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as RGB, never the image itself."""
    if image.mode in DEEP or image.mode == "F":
        values = np.asarray(image)
        if image.mode == "I" and image.format in (None, "TIFF") and 0 < values.max() <= 255:
            # Of 16 bits, nearly black; of 8, an ordinary photo. Of other formats this mode has 16.
            raise Unfit("unknown scale", f"32-bit greys of at most {values.max()}, which may be 8 bits or 16")
        greys = _eight_bits(values)
        # A PNG of 16 bits names the one grey that is transparent.
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            greys[values == clear] = 255
        return Image.fromarray(greys).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return RGB uint8 (3, H, W) as greys uint8 (1, H, W)."""
    red, green, blue = pixels.astype(np.float32) * LUMA[:, None, None]
    grey: npt.NDArray[np.uint8] = np.rint(red + green + blue).astype(np.uint8)
    return grey[None]


def _eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return greys of 16 bits, or floats in [0, 1], as 8 bits. Raises `Unfit` for other ranges."""
    most = 1.0 if values.dtype.kind == "f" else 65535.0
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= most):
        raise Unfit("unknown scale", f"greys of {low:g} ... {high:g} instead of 0 ... {most:g}")
    return np.rint(values.astype(np.float64) * (255 / most)).astype(np.uint8)


@dataclass(frozen=True)
class Stored:
    """Images uint8 (N, C, size, size), on disk, and what is odd about each file, by its position.

    A file that gives no image has one oddity, of a kind in `UNREADABLE`.
    """

    images: OnDisk
    odd: dict[int, tuple[tuple[str, str], ...]]

    @property
    def unreadable(self) -> dict[int, tuple[str, str]]:
        """The kind and the reason of each file that is not among the images."""
        return {position: odd[0] for position, odd in self.odd.items() if odd[0][0] in UNREADABLE}

    def findings(self, files: Sequence[File]) -> tuple[Finding, ...]:
        """What is odd about the files, in their order."""
        return tuple(
            Finding(kind, files[position].path, detail)
            for position, odd in self.odd.items()
            for kind, detail in odd
        )


def stored(
    root: Path, files: Sequence[File], size: int, *, squash: bool, cache: Path, channels: int = 3
) -> Stored:
    """Return the photos at size x size from the file in `cache`, else decoded and stored there.

    What is stored is known by root, names, sizes and times of change; what was stored of this root, size
    and shape before is replaced, as is a file that does not hold what was written. Raises `DataError` when
    the cache cannot be written.
    """
    grey = "grey " if channels == 1 else ""
    settings = f"{VERSION} {size} {squash} {grey}".encode()
    series = hashlib.sha256(settings + os.fsencode(root.resolve())).hexdigest()[:12]
    lines = (f"{file.size} {file.changed} ".encode() + os.fsencode(file.path) + b"\0" for file in files)
    # A limit of pixels says which photos are left out.
    limit = f"{Image.MAX_IMAGE_PIXELS}\0".encode()
    content = hashlib.sha256(limit + b"".join(lines)).hexdigest()[:24]
    prefix = f"{re.sub(r'[^A-Za-z0-9_]', '_', root.resolve().name)[:40]}-{size}-{series}-"
    path = cache / f"{prefix}{content}.safetensors"
    each = (channels, size, size)
    photos = _cached(path, len(files), each, cache)
    # What the system did not hand out then, it may since.
    if photos is not None and not any(
        kind == "unreadable" and os.access(root / files[at].path, os.R_OK)
        for at, (kind, _) in photos.unreadable.items()
    ):
        return photos
    title = f"storing {len(files):,} photos at {size}x{size}"
    if photos is None and path.exists():
        title += " again, for the file that held them is damaged"
    aside: Path | None = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        aside = cache / f".{prefix}{secrets.token_hex(8)}"
        with aside.open("xb") as out, Progress(title, len(files), unit="photos") as progress:
            _write(out, [root / file.path for file in files], each, squash, progress)
        aside.replace(path)
        known.forget(cache, prefix)
        for outdated in cache.glob(f"{prefix}*.safetensors"):
            if outdated != path:
                outdated.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"the photos cannot be stored in {cache} ({error.strerror or error}): name another cache"
        ) from None
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)
    photos = _cached(path, len(files), each, cache)
    if photos is None:
        raise DataError(f"{path} was written but cannot be read back: is the disk sound? Name another cache")
    return photos


def _cached(path: Path, count: int, each: tuple[int, int, int], cache: Path) -> Stored | None:
    """Return what a stored file holds, or None when it is absent, damaged or not of these photos."""
    try:
        with safe_open(path, framework="pt") as file:
            shape = tuple(file.get_slice("images").get_shape())
            report = file.get_tensor("odd").numpy().tobytes()
            digest = (file.metadata() or {}).get("digest")
        images = Images(path, HEADER, shape[0], shape[1:])
        odd = {
            int(position): tuple((str(kind), str(detail)) for kind, detail in some)
            for position, some in json.loads(report)
        }
    except (OSError, SafetensorError, ValueError, TypeError, IndexError):
        return None
    photos = Stored(OnDisk([images], cache=cache), odd)
    if not all(some and all(kind in KINDS for kind, _ in some) for some in odd.values()):
        return None
    fits = shape == (count - len(photos.unreadable), *each) and all(0 <= at < count for at in odd)
    return photos if fits and _is_as_written(photos.images, report, digest) else None


def _is_as_written(images: OnDisk, report: bytes, digest: str | None) -> bool:
    """Whether pixels and report are those of the digest; they are looked at when the file has changed."""
    # Of each image, which those who look for duplicates want anyway, and find in the cache from then on.
    each = known.digests(images) if len(images) else None
    pixels = b"" if each is None else each.numpy().tobytes()
    return hashlib.sha256(pixels + report).hexdigest() == digest


def _write(
    out: IO[bytes], paths: Sequence[Path], each: tuple[int, int, int], squash: bool, progress: Progress
) -> None:
    """Write the safetensors file photo by photo, so that memory stays bounded however many there are."""
    out.write(bytes(HEADER))
    odd: list[tuple[int, tuple[tuple[str, str], ...]]] = []
    count, digest = 0, hashlib.sha256()
    for position, read in enumerate(_decoded(paths, each, squash)):
        if read.pixels is not None:
            out.write(read.pixels.data)
            digest.update(hashlib.sha256(read.pixels.data).digest())
            count += 1
        if read.odd:
            odd.append((position, read.odd))
        progress.add(1)
    report = json.dumps(odd).encode()
    out.write(report)
    digest.update(report)
    end = count * math.prod(each)
    header = {
        "__metadata__": {"digest": digest.hexdigest()},
        "images": {"dtype": "U8", "shape": [count, *each], "data_offsets": [0, end]},
        "odd": {"dtype": "U8", "shape": [len(report)], "data_offsets": [end, end + len(report)]},
    }
    out.seek(0)
    out.write((HEADER - 8).to_bytes(8, "little") + json.dumps(header).encode().ljust(HEADER - 8))
    out.flush()
    os.fsync(out.fileno())


def _decoded(paths: Sequence[Path], each: tuple[int, int, int], squash: bool) -> Iterator[Read]:
    """Yield each photo in order, decoded on all cores that are ours."""
    from PIL import Image

    Image.init()
    workers = cores()
    waiting: deque[Future[Read]] = deque()
    # Pillow warns of odd metadata and of what is refused here anyway.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        for path in paths:
            waiting.append(pool.submit(read_photo, path, each[1:], squash=squash, channels=each[0]))
            if len(waiting) >= 16 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
