"""Eight: about what a network takes as a file whose weights are whole numbers of eight bits, from above."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

HEAD = 4096
"""Bytes set aside for what a file says of its model, and for its input and output."""
_SCALED, _BIAS, _FLOAT = 5, 12, 4
"""Bytes for an output's scale and zero; for a bias, 32 bits with both of its own; for any other number."""
_WEIGHED, _OTHER = 400, 250
"""Bytes for the operations of a layer with weights, and of another one, with the conversions round them."""
_NOTHING = (nn.Identity, nn.Dropout, nn.Flatten)


def int8_size(module: nn.Module, own: Iterable[str]) -> int:
    """The bytes of a module without those inside it, of whose tensors it owns those named `own`.

    They were measured on ONNX files of `export` with int8: weights one byte each and a scale for each output,
    other tensors as floats, and the graph.
    """
    named = {**module._parameters, **module._buffers}
    tensors = {key: tensor for key in own if (tensor := named[key]) is not None}
    weighed = any(_weighs(key, tensor) for key, tensor in tensors.items())
    leaf = not module._modules and not isinstance(module, _NOTHING)
    graph = _WEIGHED if weighed else _OTHER if leaf else 0
    return graph + sum(_size(key, tensor, weighed) for key, tensor in tensors.items())


def _weighs(key: str, tensor: Tensor) -> bool:
    return key.endswith("weight") and tensor.dim() > 1


def _size(key: str, tensor: Tensor, weighed: bool) -> int:
    if _weighs(key, tensor):
        return tensor.numel() + _SCALED * len(tensor)
    if not tensor.is_floating_point():
        return tensor.nbytes
    return tensor.numel() * (_BIAS if weighed and "bias" in key else _FLOAT)
