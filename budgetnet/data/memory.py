"""How much memory there is for images: what the system, its limits and the user leave."""

import os
import re
import resource
from pathlib import Path

from budgetnet.data.kinds import DataError
from budgetnet.text import BYTES, quantity

MEMORY_SHARE = 0.25
"""Images from files are read into memory when they take at most this share of what is free."""


def fits_memory(size: int) -> bool:
    """Whether images of `size` bytes are to be held in memory.

    They are when they take at most a quarter of what is free, or at most BUDGETNET_MEMORY where that is set
    ("2GB", "512MiB"; "0" leaves all images in their files). Raises `DataError` for a value that is no size.
    """
    stated = os.environ.get("BUDGETNET_MEMORY")
    return size <= (MEMORY_SHARE * free_memory() if stated is None else _bytes(stated))


def free_memory() -> int:
    """Return the bytes of host memory that can be had without swapping and without going over a limit."""
    left = [_number("/proc/meminfo", r"MemAvailable:\s*(\d+) kB") * 1024]
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        left.append(soft - _number("/proc/self/status", r"VmData:\s*(\d+) kB") * 1024)
    return max(0, min([*left, *_groups()]))


def _groups() -> list[int]:
    """Return what the limits of this process's control groups leave, as containers set them."""
    left = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            names, top = ("memory.max", "memory.current", "inactive_file"), Path("/sys/fs/cgroup")
        elif "memory" in kinds.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top = Path("/sys/fs/cgroup/memory")
        else:
            continue
        # In a container the path may be that of the host; then the group's files lie at the top.
        folder = next((at for at in (top / path.lstrip("/"), top) if (at / names[0]).exists()), None)
        if folder is None:
            continue
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


def _bytes(stated: str) -> int:
    count = quantity(stated, BYTES)
    if count is None:
        raise DataError(f"BUDGETNET_MEMORY should be a size such as 2GB or 512MiB, but found {stated!r:.60}")
    return int(count)
