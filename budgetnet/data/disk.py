"""OnDisk: images that stay in their files, where memory has no room for them, and are read as asked for."""

import os
import re
import weakref
import zlib
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from budgetnet.data.kinds import DataError
from budgetnet.process import data_limit, flags, read_at, unused_memory
from budgetnet.text import BYTES, quantity

# Bytes of images that are read in one go by whatever reads all of them.
CHUNK = 1 << 24


class File:
    """`count` images in a file, one after another from byte `offset`, each as uint8 of the lengths `item`.

    `axes` says which of these lengths are C, H and W. The file is opened once and may be unlinked or replaced
    meanwhile; one that is `passing` is removed, where the system can at once, else with the object. Raises
    `DataError` for a file that cannot be opened or is too short.
    """

    def __init__(
        self,
        path: Path,
        offset: int,
        count: int,
        item: tuple[int, ...],
        axes: tuple[int, int, int] = (0, 1, 2),
        *,
        passing: bool = False,
    ) -> None:
        self.path, self.offset, self.count, self.item, self.axes = path, offset, count, item, axes
        self.each = torch.Size(item).numel()
        try:
            self._descriptor = os.open(path, os.O_RDONLY | flags("O_CLOEXEC"))
        except OSError as error:
            raise self._lost(error) from None
        weakref.finalize(self, _end, self._descriptor, path if passing else None)
        status = os.fstat(self._descriptor)
        changed = f"{status.st_mtime_ns} {status.st_ctime_ns}"
        self.identity = f"{path.resolve()} {status.st_size} {changed} {offset} {count} {item} {axes}"
        self.digests: Tensor | None = None
        if status.st_size < offset + count * self.each:
            raise self._short()
        if passing and os.name == "posix":
            path.unlink()
        # What is read ahead of a random image is not the next one that is asked for.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def __len__(self) -> int:
        return self.count

    def __reduce__(self) -> tuple[Any, ...]:
        return File, (self.path, self.offset, self.count, self.item, self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths C, H, W of each image."""
        return tuple(self.item[axis] for axis in self.axes)

    def read(self, rows: Tensor, out: Tensor) -> None:
        """Fill `out`, uint8 (B, C, H, W), contiguous, with the images at `rows`."""
        if self.axes == (0, 1, 2):
            self._fill(rows.tolist(), out)
            return
        stored = torch.empty((len(rows), *self.item), dtype=torch.uint8)
        self._fill(rows.tolist(), stored)
        out.copy_(stored.permute(0, *(1 + axis for axis in self.axes)))

    def _fill(self, rows: list[int], out: Tensor) -> None:
        """Read in the order of the file, what lies together there and in `out` at once."""
        if not rows:
            return
        memory, each = memoryview(out.numpy().reshape(-1).data), self.each
        low, count = min(rows), max(rows) - min(rows) + 1
        if len(rows) < count <= 2 * len(rows):
            # Most of a stretch: one reading and a choice are faster than many readings.
            stretch = torch.empty((count, *out.shape[1:]), dtype=torch.uint8)
            self._read(memoryview(stretch.numpy().reshape(-1).data), self.offset + low * each)
            torch.index_select(stretch, 0, torch.tensor(rows) - low, out=out)
            return
        order = sorted(range(len(rows)), key=rows.__getitem__)
        at = 0
        while at < len(order):
            slot, row, run = order[at], rows[order[at]], 1
            while at + run < len(order) and order[at + run] == slot + run and rows[slot + run] == row + run:
                run += 1
            self._read(memory[slot * each : (slot + run) * each], self.offset + row * each)
            at += run

    def _read(self, memory: memoryview, offset: int) -> None:
        while memory:
            try:
                count = read_at(self._descriptor, memory, offset)
            except OSError as error:
                raise self._lost(error) from None
            if count == 0:
                raise self._short()
            memory, offset = memory[count:], offset + count

    def _lost(self, error: OSError) -> DataError:
        reason = error.strerror or "not a file"
        return DataError(
            f"{self.path} cannot be read ({reason}): see that the file is there, whole and yours"
        )

    def _short(self) -> DataError:
        return DataError(
            f"{self.path} should hold {self.count:,} images of {self.each:,} bytes and is shorter: "
            "it was cut off; remove it, so that it is made or fetched again"
        )


def _end(descriptor: int, passing: Path | None) -> None:
    """Close a file, and remove one that was there for this process alone."""
    os.close(descriptor)
    if passing is not None:
        passing.unlink(missing_ok=True)


class OnDisk:
    """Images uint8 (N, C, H, W) that stay in their files; those at positions are read as a tensor.

    `parts` are files, or tensors (N, C, H, W) in memory, one after another; `rows` int64 (N,) are the
    positions there of these images, all by default. `cache` is the folder for facts about them, such as
    digests. It can be read from several threads.

        batch = images[torch.tensor([5, 3])]
    """

    dtype = torch.uint8
    ndim = 4
    device = torch.device("cpu")

    def __init__(
        self, parts: Sequence[File | Tensor], rows: Tensor | None = None, *, cache: Path | None = None
    ) -> None:
        self.parts, self.cache = tuple(parts), cache
        self.rows = torch.arange(sum(map(len, parts))) if rows is None else rows
        first = self.parts[0]
        each = first.shape if isinstance(first, File) else tuple(first.shape[1:])
        self.shape = torch.Size((len(self.rows), *each))

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        files = [str(part.path) for part in self.parts if isinstance(part, File)]
        return f"OnDisk({tuple(self.shape)} in {', '.join(files)})"

    @property
    def files(self) -> tuple[File, ...]:
        """The files, or none where a part is in memory."""
        files = tuple(part for part in self.parts if isinstance(part, File))
        return files if len(files) == len(self.parts) else ()

    def numel(self) -> int:
        """Return how many bytes the images have."""
        return self.shape.numel()

    def at(self, which: Tensor) -> "OnDisk":
        """Return the images at positions int64 (B,), unread."""
        return OnDisk(self.parts, self.rows.index_select(0, which), cache=self.cache)

    def read(self, which: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the images at positions int64 (B,) as a contiguous tensor, or in `out`.

        Raises `DataError` naming a file that cannot be read.
        """
        rows = self.rows.index_select(0, which)
        if out is None:
            out = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8)
        first = 0
        for part in self.parts:
            here = rows - first
            slots = ((here >= 0) & (here < len(part))).nonzero().flatten()
            if isinstance(part, Tensor):
                out[slots] = part.index_select(0, here[slots])
            elif len(slots) == len(rows):
                part.read(here, out)
            elif len(slots):
                part_images = torch.empty((len(slots), *self.shape[1:]), dtype=torch.uint8)
                part.read(here[slots], part_images)
                out[slots] = part_images
            first += len(part)
        return out

    def tensor(self) -> Tensor:
        """Return all images in memory, of which it is remembered where they come from."""
        out = torch.empty(self.shape, dtype=torch.uint8)
        step = max(1, CHUNK // max(1, self.shape[1:].numel()))
        for which in torch.split(torch.arange(len(self)), step):
            self.read(which, out[which[0] : which[0] + len(which)])
        return marked(out, self)

    def __getitem__(self, which: Any) -> Tensor:
        """Return the images at a position, a slice or a row of positions, read into memory."""
        if isinstance(which, tuple):
            some = self[which[0]]
            return some[which[1:]] if isinstance(which[0], int) else some[(slice(None), *which[1:])]
        chosen = torch.arange(len(self))[which]
        return self.read(chosen.reshape(-1))[0] if chosen.ndim == 0 else self.read(chosen)


def chunks(images: Tensor | OnDisk) -> Iterator[Tensor]:
    """Yield images in order as contiguous uint8 (n, C, H, W) of about CHUNK bytes, where they lie."""
    step = max(1, CHUNK // max(1, images.shape[1:].numel()))
    for start in range(0, len(images), step):
        yield images[start : start + step].contiguous()


def joined(first: Tensor | OnDisk, second: Tensor | OnDisk) -> OnDisk:
    """Return images (N, C, H, W), and after them others (M, C, H, W), as one; none are read or copied."""
    one, other = (part if isinstance(part, OnDisk) else OnDisk([part]) for part in (first, second))
    rows = torch.cat([one.rows, other.rows + sum(map(len, one.parts))])
    return OnDisk([*one.parts, *other.parts], rows, cache=one.cache or other.cache)


def marked(images: Tensor, source: OnDisk) -> Tensor:
    """Return the tensor itself; until it is changed, `source_of` says that it holds what `source` does."""
    _SOURCES[images] = (source, _state(images))
    return images


def source_of(images: Tensor | OnDisk) -> OnDisk | None:
    """Return the files that images were read from, unless they have been changed since, or made."""
    if isinstance(images, OnDisk):
        return images
    source, state = _SOURCES.get(images, (None, None))
    return source if source is not None and _state(images) == state else None


def _state(images: Tensor) -> tuple[int, int]:
    """What changes with the pixels: the version, which NumPy's views of a tensor pass by, and a checksum."""
    checksum = 1
    if images.device.type == "cpu":
        for chunk in chunks(images):
            checksum = zlib.adler32(chunk.numpy().data, checksum)
    return images._version, checksum


_SOURCES: MutableMapping[Tensor, tuple[OnDisk, tuple[int, int]]] = WeakTensorKeyDictionary()


MEMORY_SHARE = 0.25
"""Images from files are read into memory when they take at most this share of what is free."""


def fits_memory(size: int) -> bool:
    """Whether images of `size` bytes are to be held in memory.

    They are when they take at most a quarter of what is free, or at most BUDGETNET_MEMORY where that is set
    ("2GB", "512MiB"; "0" leaves all images in their files). Raises `DataError` for a value that is no size.
    """
    stated = os.environ.get("BUDGETNET_MEMORY")
    if stated is None:
        return size <= MEMORY_SHARE * free_memory()
    limit = quantity(stated, BYTES)
    if limit is None:
        raise DataError(f"BUDGETNET_MEMORY should be a size such as 2GB or 512MiB, but found {stated!r:.60}")
    return size <= limit


def free_memory() -> int:
    """Return the bytes of host memory that can be had without swapping and without going over a limit."""
    left = [_number("/proc/meminfo", r"MemAvailable:\s*(\d+) kB") * 1024 or unused_memory()]
    limit = data_limit()
    if limit is not None:
        left.append(limit - _number("/proc/self/status", r"VmData:\s*(\d+) kB") * 1024)
    return max(0, min([*left, *left_by_groups()]))


def left_by_groups(system: Path = Path("/")) -> list[int]:
    """Return what the limits of this process's control groups, and of those above them, leave."""
    left = []
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            names, top = ("memory.max", "memory.current", "inactive_file"), system / "sys/fs/cgroup"
        elif "memory" in kinds.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top = system / "sys/fs/cgroup/memory"
        else:
            continue
        # In a container the path may be that of the host; then only the files at the top are there.
        group = top / path.lstrip("/")
        for folder in (at for at in (group, *group.parents) if at.is_relative_to(top)):
            limit = _number(folder / names[0], r"^(\d+)$")
            used = _number(folder / names[1], r"^(\d+)$")
            if limit:
                # Pages of files that nobody used lately make room when asked to.
                left.append(limit - used + _number(folder / "memory.stat", rf"(?m)^{names[2]} (\d+)$"))
    return left


def _number(path: str | Path, pattern: str) -> int:
    """Return the number that a pattern finds in a file of the system, or 0."""
    try:
        match = re.search(pattern, Path(path).read_text().strip())
    except OSError:
        return 0
    return int(match[1]) if match else 0
