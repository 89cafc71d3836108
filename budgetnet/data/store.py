"""Photos stored once at their size: decoded in threads into one safetensors file, mapped from then on."""

import hashlib
import json
import os
import re
import secrets
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from torch import Tensor

from budgetnet.data.error import DataError
from budgetnet.data.listing import File
from budgetnet.data.photos import photo
from budgetnet.data.progress import Progress

# Part of the key: raised whenever the same photos would come out with other pixels.
VERSION = 1
# Room for the header, which is written last, when it is known how many photos could be read.
HEADER = 1024


@dataclass(frozen=True)
class Stored:
    """Images uint8 (N, 3, size, size), mapped, and why each file that is not among them could not be read."""

    images: Tensor
    unreadable: dict[int, str]


def stored(root: Path, files: Sequence[File], size: int, *, squash: bool, cache: Path) -> Stored:
    """Return the photos at size x size, from the file in `cache`, else decoded and stored there.

    What is stored is known by root, names, sizes and times of change; what was stored of this root, size
    and shape before is replaced. Raises `DataError` when the cache cannot be written.
    """
    settings = f"{VERSION} {size} {squash} ".encode()
    place = hashlib.sha256(settings + os.fsencode(root.resolve())).hexdigest()[:12]
    lines = (f"{file.size} {file.changed} ".encode() + os.fsencode(file.path) + b"\0" for file in files)
    content = hashlib.sha256(b"".join(lines)).hexdigest()[:24]
    prefix = f"{re.sub(r'[^A-Za-z0-9_]', '_', root.resolve().name)[:40]}-{size}-{place}-"
    path = cache / f"{prefix}{content}.safetensors"
    found = _read(path, len(files), size)
    if found is not None:
        return found
    aside: Path | None = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        aside = cache / f".{prefix}{secrets.token_hex(8)}"
        with aside.open("xb") as out:
            _write(out, [root / file.path for file in files], size, squash)
        aside.replace(path)
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
    found = _read(path, len(files), size)
    if found is None:
        raise DataError(f"{path} was written but cannot be read back: is the disk sound? Name another cache")
    return found


def _read(path: Path, count: int, size: int) -> Stored | None:
    """Return what a stored file holds, or None when it is absent, damaged or not of these photos."""
    try:
        with safe_open(path, framework="pt") as file:
            images: Tensor = file.get_tensor("images")
            report = json.loads(bytes(file.get_tensor("unreadable").tolist()))
        unreadable = {int(position): str(reason) for position, reason in report}
    except (OSError, SafetensorError, ValueError, TypeError):
        return None
    fits = tuple(images.shape) == (count - len(unreadable), 3, size, size)
    return Stored(images, unreadable) if fits else None


def _write(out: IO[bytes], paths: Sequence[Path], size: int, squash: bool) -> None:
    """Write the safetensors file photo by photo, so that memory stays bounded however many there are."""
    out.write(bytes(HEADER))
    unreadable: list[tuple[int, str]] = []
    with Progress(f"storing {len(paths):,} photos at {size}x{size}", len(paths), unit="photos") as progress:
        for position, pixels in enumerate(_decoded(paths, size, squash)):
            if isinstance(pixels, str):
                unreadable.append((position, pixels))
            else:
                out.write(pixels.data)
            progress.add(1)
    report = json.dumps(unreadable).encode()
    out.write(report)
    count = len(paths) - len(unreadable)
    end = count * 3 * size * size
    header = {
        "images": {"dtype": "U8", "shape": [count, 3, size, size], "data_offsets": [0, end]},
        "unreadable": {"dtype": "U8", "shape": [len(report)], "data_offsets": [end, end + len(report)]},
    }
    out.seek(0)
    out.write((HEADER - 8).to_bytes(8, "little") + json.dumps(header).encode().ljust(HEADER - 8))
    out.flush()
    os.fsync(out.fileno())


def _decoded(paths: Sequence[Path], size: int, squash: bool) -> Iterator[npt.NDArray[np.uint8] | str]:
    """Yield the pixels of each photo, or why there are none, in order, decoded on all cores that are ours."""
    from PIL import Image

    Image.init()
    workers = len(os.sched_getaffinity(0))
    waiting: deque[Future[npt.NDArray[np.uint8] | str]] = deque()
    # Pillow warns of odd metadata and of what is refused here anyway.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        for path in paths:
            waiting.append(pool.submit(photo, path, size, squash=squash))
            if len(waiting) >= 16 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
