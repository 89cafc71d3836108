"""Shared: data laid out once in memory that several processes map, so that none holds a copy."""

import errno
import math
import os
from typing import Any

import torch
from torch import Tensor

from budgetnet.data import Data, Finding, Split

# Numbers of eight bytes first: each lies where its type may lie.
_PARTS = {"indices": torch.int64, "labels": torch.int64, "images": torch.uint8}


def share(data: Data) -> dict[str, Any]:
    """Write data into memory that has no name and ends with its last user; gives what `shared` asks for.

    That is plain JSON, and its "memory" the file descriptor. Raises OSError where there is no such memory.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    descriptor = os.memfd_create("budgetnet-data")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            for part in _PARTS:
                for split in data.splits.values():
                    tensor: Tensor = getattr(split, part)
                    tensor.cpu().contiguous().numpy().tofile(file)
    except BaseException:
        os.close(descriptor)
        raise
    return {
        "memory": descriptor,
        "splits": {name: [list(split.shape), split.names] for name, split in data.splits.items()},
        "classes": list(data.classes),
        "name": data.name,
        "notes": list(data.notes),
        "findings": [[finding.kind, finding.path, finding.detail] for finding in data.findings],
        "shape": data.shape,
    }


def shared(layout: dict[str, Any]) -> Data:
    """The data that `share` wrote, mapped."""
    path = f"/proc/self/fd/{layout['memory']}"
    whole = torch.from_file(path, shared=False, size=os.path.getsize(path), dtype=torch.uint8)
    at = 0
    tensors: dict[tuple[str, str], Tensor] = {}
    for part, dtype in _PARTS.items():
        for name, (shape, _) in layout["splits"].items():
            lengths = shape if part == "images" else shape[:1]
            end = at + math.prod(lengths) * dtype.itemsize
            tensors[name, part] = whole[at:end].view(dtype).view(lengths)
            at = end
    splits = {
        name: Split(
            tensors[name, "images"],
            tensors[name, "labels"],
            tensors[name, "indices"],
            None if names is None else tuple(names),
        )
        for name, (_, names) in layout["splits"].items()
    }
    return Data(
        splits["train"],
        splits.get("val"),
        splits.get("test"),
        tuple(layout["classes"]),
        layout["name"],
        splits.get("unlabelled"),
        tuple(layout["notes"]),
        tuple(Finding(*finding) for finding in layout["findings"]),
        layout["shape"],
    )


def shared_size(data: Data) -> int:
    """Bytes of the images of all splits."""
    return sum(split.images.numel() for split in data.splits.values())
