"""Packing: the tensors of modules that have another form in a file than in memory, such as few bits each."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from budgetnet.budget import Form, Packs


def packed_forms(model: nn.Module) -> dict[str, Form]:
    """The type and shape in a file, by name, of the tensors of `model` that have others in memory."""
    return {prefix + key: form for prefix, part in _packing(model) for key, form in part.packed().items()}


def packed(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state's tensors as they are in a file."""
    entries = dict(tensors)
    for prefix, part in _packing(model):
        own = {key: tensors[prefix + key] for key in part.packed()}
        entries |= {prefix + key: tensor for key, tensor in part.pack(own).items()}
    return entries


def unpacked(model: nn.Module, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse. Raises ValueError for what `packed` would not have given."""
    tensors = dict(stored)
    for prefix, part in _packing(model):
        own = {key: stored[prefix + key] for key in part.packed()}
        try:
            tensors |= {prefix + key: tensor for key, tensor in part.unpack(own).items()}
        except ValueError as error:
            raise ValueError(f"its packed weights of {prefix.rstrip('.') or 'the model'}: {error}") from None
    return tensors


def _packing(model: nn.Module) -> Iterator[tuple[str, Packs]]:
    for name, module in model.named_modules():
        if isinstance(module, Packs):
            yield (f"{name}." if name else ""), module
