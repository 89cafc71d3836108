"""Quantise: an ONNX model whose weights and activations are whole numbers of eight bits."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from budgetnet.exporting.graph import INPUT, slim
from budgetnet.text import one_line


def int8_graph(model: Any, views: Tensor, *, batch: int) -> Any:
    """The model in QDQ form, weights per output channel, ranges of activations as on float `views`.

    `views` are (N, C, H, W) in [0, 1], of which `batch` go through at once.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Views(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.parts: Iterator[Tensor] = iter(torch.split(views, batch))

        def get_next(self) -> dict[str, Any] | None:
            part = next(self.parts, None)
            return None if part is None else {INPUT: part.numpy()}

    shaped = onnx.shape_inference.infer_shapes(model)
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # onnxruntime advises on the root logger
    try:
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(folder) / "int8.onnx"
            quantize_static(
                shaped,
                str(path),
                Views(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
            )
            small = onnx.load(str(path))
    except Exception as error:
        reason = one_line(str(error)) or type(error).__name__
        raise ValueError(f"onnxruntime cannot make the network eight bits wide: {reason}") from error
    finally:
        logger.setLevel(level)
    slim(small)
    return small
