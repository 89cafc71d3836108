"""Publishers' binary files of bytes, mapped into memory and checked for their size."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from budgetnet.data.error import DataError


def mapped(path: Path, shape: Sequence[int], *, reason: str) -> Tensor:
    """Return a file as uint8 of this shape, mapped privately: read when looked at, never written.

    -1 as the first length stands for as many as there are. Raises `DataError` naming file, size expected
    and found, with the `reason` for what is expected.
    """
    each = torch.Size(shape[1:]).numel()
    try:
        size = path.stat().st_size
        rows = size // each if shape[0] == -1 else shape[0]
        if size != rows * each or rows == 0:
            expected = f"a multiple of {each:,} bytes" if shape[0] == -1 else f"{rows * each:,} bytes"
            raise DataError(
                f"{path} should hold {expected} ({reason}), but holds {size:,}: delete it and fetch it again"
            )
        whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    except (OSError, RuntimeError) as error:
        reason = error.strerror or "not a file" if isinstance(error, OSError) else "it cannot be opened"
        raise DataError(
            f"{path} cannot be read ({reason}): see that the file is there and yours to read"
        ) from None
    return whole.view(rows, *shape[1:])
