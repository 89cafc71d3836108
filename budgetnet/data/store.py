"""Photos stored once at their size: decoded in threads into one safetensors file, read from then on."""

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

from safetensors import SafetensorError, safe_open

from budgetnet.data.disk import File as Images
from budgetnet.data.disk import OnDisk
from budgetnet.data.error import DataError
from budgetnet.data.kinds import KINDS, UNREADABLE, Finding
from budgetnet.data.known import forget
from budgetnet.data.listing import File
from budgetnet.data.photos import Read, read_photo
from budgetnet.data.progress import Progress

# Part of the key: raised whenever the same photos would come out with other pixels.
VERSION = 2
# Room for the header, which is written last, when it is known how many photos could be read.
HEADER = 1024


@dataclass(frozen=True)
class Stored:
    """Images uint8 (N, 3, size, size), on disk, and what is odd about each file, by its position.

    A file that gives no image has one oddity, of a kind in `UNREADABLE`.
    """

    images: OnDisk
    odd: dict[int, tuple[tuple[str, str], ...]]

    @property
    def unreadable(self) -> dict[int, tuple[str, str]]:
        """The kind and the reason of each file that is not among the images."""
        return {place: odd[0] for place, odd in self.odd.items() if odd[0][0] in UNREADABLE}

    def findings(self, files: Sequence[File]) -> tuple[Finding, ...]:
        """What is odd about the files, in their order."""
        return tuple(
            Finding(kind, files[place].path, detail)
            for place, odd in self.odd.items()
            for kind, detail in odd
        )


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
    found = _read(path, len(files), size, cache)
    if found is not None:
        return found
    aside: Path | None = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        aside = cache / f".{prefix}{secrets.token_hex(8)}"
        with aside.open("xb") as out:
            _write(out, [root / file.path for file in files], size, squash)
        aside.replace(path)
        forget(cache, prefix)
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
    found = _read(path, len(files), size, cache)
    if found is None:
        raise DataError(f"{path} was written but cannot be read back: is the disk sound? Name another cache")
    return found


def _read(path: Path, count: int, size: int, cache: Path) -> Stored | None:
    """Return what a stored file holds, or None when it is absent, damaged or not of these photos."""
    try:
        with safe_open(path, framework="pt") as file:
            shape = tuple(file.get_slice("images").get_shape())
            report = json.loads(file.get_tensor("odd").numpy().tobytes())
        images = Images(path, HEADER, shape[0], shape[1:])
        odd = {int(place): tuple((str(kind), str(detail)) for kind, detail in some) for place, some in report}
    except (OSError, SafetensorError, ValueError, TypeError, IndexError):
        return None
    found = Stored(OnDisk([images], cache=cache), odd)
    known = all(some and all(kind in KINDS for kind, _ in some) for some in odd.values())
    fits = known and shape == (count - len(found.unreadable), 3, size, size)
    return found if fits and all(0 <= place < count for place in odd) else None


def _write(out: IO[bytes], paths: Sequence[Path], size: int, squash: bool) -> None:
    """Write the safetensors file photo by photo, so that memory stays bounded however many there are."""
    out.write(bytes(HEADER))
    odd: list[tuple[int, tuple[tuple[str, str], ...]]] = []
    count = 0
    with Progress(f"storing {len(paths):,} photos at {size}x{size}", len(paths), unit="photos") as progress:
        for place, found in enumerate(_decoded(paths, size, squash)):
            if found.pixels is not None:
                out.write(found.pixels.data)
                count += 1
            if found.odd:
                odd.append((place, found.odd))
            progress.add(1)
    report = json.dumps(odd).encode()
    out.write(report)
    end = count * 3 * size * size
    header = {
        "images": {"dtype": "U8", "shape": [count, 3, size, size], "data_offsets": [0, end]},
        "odd": {"dtype": "U8", "shape": [len(report)], "data_offsets": [end, end + len(report)]},
    }
    out.seek(0)
    out.write((HEADER - 8).to_bytes(8, "little") + json.dumps(header).encode().ljust(HEADER - 8))
    out.flush()
    os.fsync(out.fileno())


def _decoded(paths: Sequence[Path], size: int, squash: bool) -> Iterator[Read]:
    """Yield each photo in order, decoded on all cores that are ours."""
    from PIL import Image

    Image.init()
    workers = len(os.sched_getaffinity(0))
    waiting: deque[Future[Read]] = deque()
    # Pillow warns of odd metadata and of what is refused here anyway.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        for path in paths:
            waiting.append(pool.submit(read_photo, path, size, squash=squash))
            if len(waiting) >= 16 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
