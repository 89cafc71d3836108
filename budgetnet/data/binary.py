"""Publishers' binary files of bytes, checked for their size: mapped into memory, or left on disk."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from budgetnet.data.disk import File
from budgetnet.data.error import DataError


def mapped(path: Path, shape: Sequence[int], *, reason: str) -> Tensor:
    """Return a file as uint8 of this shape, mapped privately: read when looked at, never written.

    -1 as the first length stands for as many as there are. Raises `DataError` naming file, size expected
    and found, with the `reason` for what is expected.
    """
    rows = _rows(path, shape, reason)
    try:
        size = rows * torch.Size(shape[1:]).numel()
        whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    except RuntimeError:
        raise _lost(path, "it cannot be opened") from None
    return whole.view(rows, *shape[1:])


def images(path: Path, shape: Sequence[int], axes: tuple[int, int, int], *, reason: str) -> File:
    """Return a file of images uint8 of this shape, of whose last three lengths `axes` are C, H and W.

    Nothing is read yet; -1 and errors are as in `mapped`.
    """
    return File(path, 0, _rows(path, shape, reason), tuple(shape[1:]), axes)


def _rows(path: Path, shape: Sequence[int], reason: str) -> int:
    """Return how many rows a file has that holds these and nothing else."""
    each = torch.Size(shape[1:]).numel()
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _lost(path, error.strerror or "not a file") from None
    rows = size // each if shape[0] == -1 else shape[0]
    if size != rows * each or rows == 0:
        expected = f"a multiple of {each:,} bytes" if shape[0] == -1 else f"{rows * each:,} bytes"
        raise DataError(
            f"{path} should hold {expected} ({reason}), but holds {size:,}: delete it and fetch it again"
        )
    return rows


def _lost(path: Path, reason: str) -> DataError:
    return DataError(f"{path} cannot be read ({reason}): see that the file is there and yours to read")
