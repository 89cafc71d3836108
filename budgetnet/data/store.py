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

from budgetnet.data import known
from budgetnet.data.disk import File as Images
from budgetnet.data.disk import OnDisk
from budgetnet.data.kinds import KINDS, UNREADABLE, DataError, Finding
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

    @property
    def withheld(self) -> list[int]:
        """The files that the system did not hand out, as it may since then."""
        return [place for place, (kind, _) in self.unreadable.items() if kind == "unreadable"]

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
    and shape before is replaced, as is a file that does not hold what was written. Raises `DataError` when
    the cache cannot be written.
    """
    settings = f"{VERSION} {size} {squash} ".encode()
    place = hashlib.sha256(settings + os.fsencode(root.resolve())).hexdigest()[:12]
    lines = (f"{file.size} {file.changed} ".encode() + os.fsencode(file.path) + b"\0" for file in files)
    content = hashlib.sha256(b"".join(lines)).hexdigest()[:24]
    prefix = f"{re.sub(r'[^A-Za-z0-9_]', '_', root.resolve().name)[:40]}-{size}-{place}-"
    path = cache / f"{prefix}{content}.safetensors"
    stored_photos = _read(path, len(files), size, cache)
    if stored_photos is not None and not any(
        os.access(root / files[at].path, os.R_OK) for at in stored_photos.withheld
    ):
        return stored_photos
    title = f"storing {len(files):,} photos at {size}x{size}"
    title += (
        " again, for the file that held them is damaged" if stored_photos is None and path.exists() else ""
    )
    aside: Path | None = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        aside = cache / f".{prefix}{secrets.token_hex(8)}"
        with aside.open("xb") as out, Progress(title, len(files), unit="photos") as progress:
            _write(out, [root / file.path for file in files], size, squash, progress)
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
    stored_photos = _read(path, len(files), size, cache)
    if stored_photos is None:
        raise DataError(f"{path} was written but cannot be read back: is the disk sound? Name another cache")
    return stored_photos


def _read(path: Path, count: int, size: int, cache: Path) -> Stored | None:
    """Return what a stored file holds, or None when it is absent, damaged or not of these photos."""
    try:
        with safe_open(path, framework="pt") as file:
            shape = tuple(file.get_slice("images").get_shape())
            report = file.get_tensor("odd").numpy().tobytes()
            digest = (file.metadata() or {}).get("digest")
        images = Images(path, HEADER, shape[0], shape[1:])
        odd = {
            int(place): tuple((str(kind), str(detail)) for kind, detail in some)
            for place, some in json.loads(report)
        }
    except (OSError, SafetensorError, ValueError, TypeError, IndexError):
        return None
    stored_photos = Stored(OnDisk([images], cache=cache), odd)
    if not all(some and all(kind in KINDS for kind, _ in some) for some in odd.values()):
        return None
    fits = shape == (count - len(stored_photos.unreadable), 3, size, size) and all(
        0 <= at < count for at in odd
    )
    return stored_photos if fits and _is_as_written(stored_photos.images, report, digest) else None


def _is_as_written(images: OnDisk, report: bytes, digest: str | None) -> bool:
    """Whether pixels and report are those of the digest; they are looked at when the file has changed."""
    # Of each image, which those who look for duplicates want anyway, and find in the cache from then on.
    each = known.digests(images) if len(images) else None
    pixels = b"" if each is None else each.numpy().tobytes()
    return hashlib.sha256(pixels + report).hexdigest() == digest


def _write(out: IO[bytes], paths: Sequence[Path], size: int, squash: bool, progress: Progress) -> None:
    """Write the safetensors file photo by photo, so that memory stays bounded however many there are."""
    out.write(bytes(HEADER))
    odd: list[tuple[int, tuple[tuple[str, str], ...]]] = []
    count, digest = 0, hashlib.sha256()
    for place, read in enumerate(_decoded(paths, size, squash)):
        if read.pixels is not None:
            out.write(read.pixels.data)
            digest.update(hashlib.sha256(read.pixels.data).digest())
            count += 1
        if read.odd:
            odd.append((place, read.odd))
        progress.add(1)
    report = json.dumps(odd).encode()
    out.write(report)
    digest.update(report)
    end = count * 3 * size * size
    header = {
        "__metadata__": {"digest": digest.hexdigest()},
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
