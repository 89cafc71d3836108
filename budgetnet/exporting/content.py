"""Content: the bytes of an exported file in each format, with what it says of itself."""

from __future__ import annotations

import io
import json
from importlib.metadata import version
from typing import Literal

import torch
from torch import Tensor

from budgetnet.exporting.formats import FORMATS, KEYS, FormatName, sealed, with_words
from budgetnet.exporting.graph import MOST_BATCH, onnx_graph
from budgetnet.exporting.mobile import executorch_program, litert_program
from budgetnet.exporting.network import network
from budgetnet.exporting.preprocess import preprocess
from budgetnet.exporting.quantise import int8_graph
from budgetnet.exporting.source import Source
from budgetnet.modelfile import to_words
from budgetnet.process import VERSION
from budgetnet.text import one_line

Batch = Literal[1, "dynamic"]


def whole_file(source: Source, to: FormatName, batch: Batch, views: Tensor | None) -> bytes:
    """The whole file, of eight bits where there are `views` (N, C, H, W) for its ranges."""
    if to == "onnx":
        content = _onnx(source, batch, views)
    elif to == "pt2":
        content = _pt2(source, batch)
    else:
        made = executorch_program if to == "executorch" else litert_program
        plain, _ = network(source.model)
        versions = {name: version(name) for name in FORMATS[to].packages}
        content = with_words(made(plain, source.example(1), views), _texts(source, batch, **versions))
    return sealed(content, FORMATS[to])


def _texts(source: Source, batch: Batch, **versions: str | int) -> dict[str, str]:
    """What the file says of itself."""
    words = {
        "card": to_words(source.card),
        "preprocess": preprocess(source.model, source.card, source.sides, 1 if batch == 1 else None),
        "versions": {"budgetnet": VERSION, "torch": torch.__version__, **versions},
    }
    return {key: json.dumps(words[key], separators=(",", ":")) for key in KEYS}


def _onnx(source: Source, batch: Batch, views: Tensor | None) -> bytes:
    """An ONNX file of eight bits where there are `views` for its ranges."""
    import onnx

    plain, codes = network(source.model)
    # With eight bits everywhere the weights have scales of their own.
    few = codes if views is None else {}
    model = onnx_graph(plain, source.example(1 if batch == 1 else 2), few, dynamic=batch != 1)
    if views is not None:
        model = int8_graph(model, views, batch=1 if batch == 1 else 32)
    opset = next(each.version for each in model.opset_import if each.domain == "")
    for key, text in _texts(source, batch, onnx=onnx.__version__, opset=opset).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    content: bytes = model.SerializeToString()
    return content


def _pt2(source: Source, batch: Batch) -> bytes:
    """A file of torch.export."""
    plain, _ = network(source.model)
    shapes = None if batch == 1 else ({0: torch.export.Dim("batch", min=1, max=MOST_BATCH)},)
    try:
        program = torch.export.export(plain, (source.example(1 if batch == 1 else 2),), dynamic_shapes=shapes)
    except Exception as error:
        reason = one_line(str(error)) or type(error).__name__
        raise ValueError(f"{type(plain).__name__} cannot be exported by torch.export: {reason}") from error
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=_texts(source, batch))
    return content.getvalue()
