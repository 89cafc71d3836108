"""Memory maps: which file an array shows; and images that are gathered in a file where memory has no room."""

import itertools
import math
import mmap
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from budgetnet.data.disk import File, OnDisk, fits_memory
from budgetnet.data.kinds import DataError
from budgetnet.data.source import cache_folder


@dataclass(frozen=True)
class Mapped:
    """The file that an array shows, and where in it its bytes begin; None unless they lie there in order."""

    path: Path
    offset: int | None


def mapped(array: object) -> Mapped | None:
    """Return what file a memory map, or an array that is a view of one, shows; None for all others."""
    above: Any = array
    while isinstance(above, np.ndarray) and not isinstance(above, np.memmap):
        above = above.base
    filename = above.filename if isinstance(above, np.memmap) else None
    if filename is None or not isinstance(array, np.ndarray):
        return None
    pages = above._mmap
    in_order = array.dtype == np.uint8 and array.flags.c_contiguous and isinstance(pages, mmap.mmap)
    # What was written to one of mode "c" is in memory alone.
    in_order = in_order and above.mode != "c"
    # A slice keeps the offset of the map that it is of: where it lies, its address says.
    first = above.offset - above.offset % mmap.ALLOCATIONGRANULARITY
    here = _address(array) - _address(np.frombuffer(pages, np.uint8)) if in_order else 0
    return Mapped(Path(filename), first + here if in_order else None)


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def gathered(
    chunks: Iterable[Tensor],
    count: int | None,
    cache: str | os.PathLike[str] | None = None,
    *,
    what: str = "",
) -> Tensor | OnDisk:
    """Return `count` images, uint8 (n, C, H, W) each time, in memory where all fit there, else in a file.

    They are in a file as well where nobody knows how many there are. It lies in `cache` and is removed when
    it is used no more. Raises `DataError` where it cannot be written, and where there are no images.
    """
    rest = iter(chunks)
    first = next(rest, None)
    if first is None:
        raise DataError(f"the dataset {what} is empty: leave it out, or fill it")
    each = tuple(first.shape[1:])
    every = itertools.chain([first], rest)
    if count is not None and fits_memory(count * math.prod(each)):
        out, at = torch.empty((count, *each), dtype=torch.uint8), 0
        for chunk in every:
            out[at : at + len(chunk)].copy_(chunk)
            at += len(chunk)
        return out
    folder = cache_folder(cache)
    path = folder / f".{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for chunk in every:
                file.write(chunk.contiguous().numpy().data)
            found = file.tell() // math.prod(each)
        return OnDisk([File(path, 0, found, each, passing=True)])
    except BaseException as error:
        path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        reason = error.strerror or error
        raise DataError(f"the images cannot be stored in {folder} ({reason}): name another cache") from None
