"""Filed: what a network's tensors weigh in a file, its table of names and its description with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from budgetnet.budget.modules import walk

Form = tuple[torch.dtype, tuple[int, ...]]
"""The type and shape that a tensor has in a file."""

DESCRIPTION = 2048
"""Bytes set aside for what a file says of its model: builder, names of classes, sizes, digests."""

_NAMES = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""safetensors' names of dtypes, in the order in which a file holds them."""


@runtime_checkable
class Packs(Protocol):
    """A module whose own tensors have another form in a file than in memory, as quantised weights do."""

    def packed(self) -> Mapping[str, Form]:
        """The form in a file of those of its own tensors that have another, by their names in the module."""

    def pack(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Those tensors as they are in a file, from those of a state."""

    def unpack(self, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Those tensors as they are in memory, from a file's; ValueError for what `pack` does not give."""


def forms(model: nn.Module) -> dict[str, dict[str, Form]]:
    """The saved tensors of each module by its name, each shared tensor once, as they are in a file."""
    by_module: dict[str, dict[str, Form]] = {}
    seen: set[int] = set()
    for name, module in walk(model).modules.items():
        packed = module.packed() if isinstance(module, Packs) else {}
        own = by_module[name] = {}
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None or key in module._non_persistent_buffers_set or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            own[key] = packed.get(key, (tensor.dtype, tuple(tensor.shape)))
    return by_module


def flat(by_module: Mapping[str, Mapping[str, Form]]) -> dict[str, Form]:
    """The forms of a whole model by the names that its tensors have in a file."""
    return {f"{name}.{key}".lstrip("."): form for name, own in by_module.items() for key, form in own.items()}


def saved_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state's tensors by name, each shared one once, under its first name."""
    state: dict[str, Tensor] = model.state_dict(keep_vars=True)
    first = {id(tensor): name for name, tensor in reversed(state.items())}
    return {name: tensor for name, tensor in state.items() if first[id(tensor)] == name}


def size(form: Form) -> int:
    """The bytes of a tensor in a file."""
    return torch.Size(form[1]).numel() * form[0].itemsize


def head(tensors: Mapping[str, Form], metadata: Mapping[str, str] | None = None) -> int:
    """The bytes of a safetensors file before its tensors: their table, and the metadata.

    Without metadata, those that are set aside for it.
    """
    kinds = {dtype: at for at, dtype in enumerate(_NAMES)}
    table: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    at = 0
    for name in sorted(tensors, key=lambda name: (kinds.get(tensors[name][0], len(kinds)), name)):
        dtype, shape = tensors[name]
        end = at + size(tensors[name])
        table[name] = {"dtype": _NAMES.get(dtype, str(dtype)), "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    length = 8 + -(-len(text) // 8) * 8
    return length + (DESCRIPTION if metadata is None else 0)
