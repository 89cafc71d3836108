"""Tensors and generators of random numbers, told by a digest of what they hold."""

import hashlib
import random
import sys
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from budgetnet.identity.code import short_digest

_digests: dict[int, tuple["weakref.ref[Tensor]", int, str]] = {}


def of_tensor(tensor: Tensor) -> str:
    """Its shape, and a digest of type and content: the same on each device."""
    shape = f"tensor {list(tensor.shape)}"
    return shape if tensor.is_meta else f"{shape} {of_tensors({'': tensor})}"


def of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A digest of tensors by name."""
    if len(tensors) == 1 and "" in tensors:
        return _of_one(tensors[""])
    return short_digest("".join(f"{name} {_of_one(tensor)} " for name, tensor in tensors.items()))


def _of_one(tensor: Tensor) -> str:
    known = _digests.get(id(tensor))
    if known is not None and known[0]() is tensor and known[1] == tensor._version:
        return known[2]
    digest = hashlib.sha256(f" {tensor.dtype} {list(tensor.shape)}".encode())
    if not tensor.is_meta:
        flat = tensor.detach().to("cpu")
        flat = flat.to_dense() if flat.layout != torch.strided else flat
        flat = flat.int_repr() if flat.is_quantized else flat
        digest.update(flat.resolve_conj().resolve_neg().flatten().contiguous().view(torch.uint8).numpy().data)
    short = digest.hexdigest()[:12]
    if not tensor.is_inference():
        _digests[id(tensor)] = (weakref.ref(tensor), tensor._version, short)
    return short


def of_array(value: Any) -> str | None:
    """A NumPy array by shape and digest; None for what is none."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray) or value.dtype.hasobject:
        return None
    content = short_digest(f"{value.dtype} {value.shape}".encode() + value.tobytes())
    return f"array {list(value.shape)} {content}"


def of_generator(value: Any) -> str | None:
    """A generator of random numbers by a digest of its state; None for what is none."""
    numpy: Any = sys.modules.get("numpy")
    if isinstance(value, torch.Generator):
        return f"generator {short_digest(value.get_state().numpy().tobytes())}"
    if isinstance(value, random.Random):
        return f"generator {short_digest(repr(value.getstate()))}"
    if numpy is not None and isinstance(value, numpy.random.Generator):
        return f"generator {short_digest(repr(value.bit_generator.state))}"
    if numpy is not None and isinstance(value, numpy.random.RandomState):
        return f"generator {short_digest(repr(value.get_state(legacy=False)))}"
    return None
