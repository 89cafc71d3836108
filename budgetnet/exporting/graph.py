"""Graph: a network as an ONNX model in one small piece, weights of few bits in as few."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from budgetnet.exporting.network import Codes
from budgetnet.text import one_line

INPUT, OUTPUT = "images", "logits"
MOST_BATCH = 65_536
_FOUR_BITS_SINCE = 21
"""The ONNX opset from which weights may have four bits; of it nothing else is used that 18 has not."""
_CLOSE = 1e-5
"""How far codes times scales may lie from a weight that was multiplied by its norm's scale, relatively."""


def onnx_graph(plain: nn.Module, example: Tensor, codes: Mapping[str, Codes], *, dynamic: bool) -> Any:
    """The ONNX model of a network that takes images like `example` (B, C, H, W), or any number of them."""
    batch = torch.export.Dim("batch", min=1, max=MOST_BATCH)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                plain,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: batch},) if dynamic else None,
                verbose=False,
            )
    except Exception as error:
        # torch says first where to read on, and last what was wrong.
        cause = error.__cause__ or error
        reason = one_line(str(cause)) or type(cause).__name__
        raise ValueError(f"{type(plain).__name__} cannot be exported by torch.onnx: {reason}") from error
    finally:
        logger.setLevel(level)
    assert program is not None
    model = program.model_proto
    _pack(model, codes)
    slim(model)
    return model


def _pack(model: Any, codes: Mapping[str, Codes]) -> None:
    """Store weights of few bits as whole numbers of 4 or 8, before the multiplication by their scales."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    for at, tensor in reversed(list(enumerate(graph.initializer))):
        few = codes.get(tensor.name)
        if few is None:
            continue
        weight, whole = numpy_helper.to_array(tensor), few.codes.numpy()
        packed = _rescaled(weight, whole)
        if packed is None:
            continue
        whole, scale = packed
        name, four = tensor.name, few.bits <= 4
        kind = TensorProto.INT4 if four else TensorProto.INT8
        content = _nibbles(whole) if four else whole.tobytes()
        del graph.initializer[at]
        graph.initializer.extend(
            [
                helper.make_tensor(f"{name}.codes", kind, whole.shape, content, raw=True),
                numpy_helper.from_array(scale, f"{name}.scale"),
            ]
        )
        inputs = [f"{name}.codes", f"{name}.scale"]
        graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], axis=0))
        if four:
            default = next(each for each in model.opset_import if each.domain == "")
            default.version = max(default.version, _FOUR_BITS_SINCE)
            model.ir_version = max(model.ir_version, 10)


def _rescaled(weight: Any, whole: Any) -> tuple[Any, Any] | None:
    """Codes and a scale above 0 each output that give a weight, its norm's scale included; None of others."""
    if weight.shape != whole.shape:
        return None
    flat, numbers = weight.reshape(len(weight), -1), whole.reshape(len(whole), -1).astype(np.float64)
    scale = (flat * numbers).sum(axis=1) / np.maximum((numbers**2).sum(axis=1), 1)
    whole = np.where(scale < 0, -1, 1).astype(np.int8).reshape(-1, *[1] * (weight.ndim - 1)) * whole
    scale = np.where(scale == 0, 1, np.abs(scale)).astype(np.float32)
    again = whole.astype(np.float32) * scale.reshape(-1, *[1] * (weight.ndim - 1))
    if np.abs(again - weight).max() > _CLOSE * np.abs(weight).max():
        return None
    return np.ascontiguousarray(whole), scale


def _nibbles(whole: Any) -> bytes:
    """Whole numbers of four bits, two in a byte, the first in the lower half."""
    flat = (whole.reshape(-1) & 0xF).astype(np.uint8)
    pairs = np.append(flat, np.zeros(len(flat) % 2, np.uint8)).reshape(-1, 2)
    content: bytes = (pairs[:, 0] | (pairs[:, 1] << 4)).astype(np.uint8).tobytes()
    return content


def slim(model: Any) -> None:
    """Leave out what nobody computes by: traces of the source, types of what lies between, long names."""
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    del graph.value_info[:], model.metadata_props[:], graph.metadata_props[:]
    model.doc_string = graph.doc_string = ""
    model.producer_name = "budgetnet"
    graph.name = "model"
    short: dict[str, str] = {}

    def renamed(name: str) -> str:
        return name if not name or name in kept else short.setdefault(name, f"t{len(short)}")

    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.name, tensor.doc_string = renamed(tensor.name), ""
        del tensor.metadata_props[:]
    for at, node in enumerate(graph.node):
        node.name, node.doc_string = f"n{at}", ""
        del node.metadata_props[:]
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
