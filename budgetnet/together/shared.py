"""Shared: data laid out once in memory that several processes map, so that none holds a copy."""

import json
import math
import os
from collections.abc import Iterator
from typing import Any

from safetensors import safe_open
from torch import Tensor

from budgetnet.data import CHUNK, Data, Finding, Split

_TYPES = {"torch.uint8": "U8", "torch.int64": "I64"}


def share(data: Data) -> int:
    """Write data into memory that has no name and ends with its last user; gives its file descriptor.

    It is laid out as a safetensors file is. Raises OSError where there is no memory for it.
    """
    about = json.dumps(_about(data)).encode()
    parts = [
        (f"{name}/{part}", held)
        for part in ("indices", "labels", "images")
        for name, split in data.splits.items()
        for held in (getattr(split, part).cpu(),)
    ]
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in parts:
        begun, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _TYPES[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [begun, end],
        }
    header["about"] = {"dtype": "U8", "shape": [len(about)], "data_offsets": [end, end + len(about)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    descriptor = os.memfd_create("budgetnet-data")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, tensor in parts:
                for piece in _pieces(tensor):
                    file.write(piece.numpy().data)
            file.write(about)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def shared(descriptor: int) -> Data:
    """The data that `share` wrote, mapped."""
    with safe_open(f"/proc/self/fd/{descriptor}", framework="pt") as file:
        about = json.loads(file.get_tensor("about").numpy().tobytes())
        splits = {
            name: Split(
                file.get_tensor(f"{name}/images"),
                file.get_tensor(f"{name}/labels"),
                file.get_tensor(f"{name}/indices"),
                None if names is None else tuple(names),
            )
            for name, names in about["splits"].items()
        }
    return Data(
        splits["train"],
        splits.get("val"),
        splits.get("test"),
        tuple(about["classes"]),
        about["name"],
        splits.get("unlabelled"),
        tuple(about["notes"]),
        tuple(Finding(*found) for found in about["findings"]),
        about["shape"],
    )


def shared_size(data: Data) -> int:
    """Bytes of the images of all splits."""
    return sum(split.images.numel() for split in data.splits.values())


def _about(data: Data) -> dict[str, Any]:
    """What of data is no tensor."""
    return {
        "name": data.name,
        "classes": list(data.classes),
        "notes": list(data.notes),
        "findings": [[found.kind, found.path, found.detail] for found in data.findings],
        "shape": data.shape,
        "splits": {name: split.names for name, split in data.splits.items()},
    }


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor in order, as contiguous pieces of about CHUNK bytes."""
    step = max(1, CHUNK // max(1, math.prod(tensor.shape[1:]) * tensor.element_size()))
    for start in range(0, len(tensor), step):
        yield tensor[start : start + step].contiguous()
