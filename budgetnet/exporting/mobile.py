"""Mobile: a network as a program of ExecuTorch or of LiteRT, of floats or of eight bits."""

from __future__ import annotations

import copy
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.exporting.formats import FORMATS, Unusable, imported
from budgetnet.layers import Standardise
from budgetnet.text import one_line

_ATEN = torch.ops.aten
_LEFT = (
    *(_ATEN.leaky_relu.default, _ATEN.leaky_relu_.default),
    *(_ATEN.add.Tensor, _ATEN.add_.Tensor, _ATEN.mul.Tensor, _ATEN.mul_.Tensor),
)
"""Operators that LiteRT's quantizer leaves in floats where they are written so."""


def executorch_program(plain: nn.Module, example: Tensor, views: Tensor | None) -> bytes:
    """The .pte file of a network that takes images like `example` (1, C, H, W), for XNNPACK.

    It has eight bits where there are `views` (N, C, H, W) that its ranges are taken from.
    """
    form = FORMATS["executorch"]
    with _quiet("ExecuTorch", plain):
        exir = imported(form, "executorch.exir")
        xnnpack = imported(form, "executorch.backends.xnnpack.partition.xnnpack_partitioner")
        if views is not None:
            kinds = imported(form, "executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
            config = kinds.get_symmetric_quantization_config(is_per_channel=True)
            quantizer = kinds.XNNPACKQuantizer().set_global(config)
            plain = _quantised(plain, example, views, quantizer)
        program = torch.export.export(plain, (example,))
        lowered = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
        content: bytes = bytes(lowered.to_executorch().buffer)
    return content


def litert_program(plain: nn.Module, example: Tensor, views: Tensor | None) -> bytes:
    """The .tflite file of such a network."""
    form = FORMATS["litert"]
    with _quiet("LiteRT", plain):
        litert = imported(form, "litert_torch")
        options: dict[str, Any] = {}
        plain = _by_rows(plain, example)
        if views is not None:
            configs = imported(form, "litert_torch.quantize.quant_config")
            quantizer = _litert_quantizer()
            plain = _quantised(_convolved(plain), example, views, quantizer, fold_quantize=False)
            options = {"quant_config": configs.QuantConfig(pt2e_quantizer=quantizer)}
        content: bytes = bytes(litert.convert(plain, (example,), **options).model_content())
    return content


class _Rows(nn.Module):
    """A linear layer on (..., inputs) that reads rows: LiteRT's converter takes no four dimensions."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.linear(x.flatten(0, -2))
        return rows.reshape(*x.shape[:-1], -1)


def _by_rows(plain: nn.Module, example: Tensor) -> nn.Module:
    """The network, or a copy of it in which linear layers on more than three dimensions read rows."""
    large: set[nn.Module] = set()

    def seen(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if given[0].ndim > 3:
            large.add(module)

    hooks = [each.register_forward_pre_hook(seen) for each in plain.modules() if isinstance(each, nn.Linear)]
    with torch.no_grad():
        plain(example)
    for hook in hooks:
        hook.remove()
    names = [name for name, module in plain.named_modules() if module in large]
    copied = copy.deepcopy(plain) if names else plain
    for name in names:
        copied.set_submodule(name, _Rows(copied.get_submodule(name)))
    return copied


def _litert_quantizer() -> Any:
    """LiteRT's quantizer, which also gives eight bits to what that leaves in floats."""
    form = FORMATS["litert"]
    kinds = imported(form, "litert_torch.quantize.pt2e_quantizer")
    annotations = imported(form, "torchao.quantization.pt2e.quantizer")
    config = kinds.get_symmetric_quantization_config(is_per_channel=True)

    class Throughout(kinds.PT2EQuantizer):  # type: ignore[misc, name-defined]
        def annotate(self, model: Any) -> Any:
            super().annotate(model)
            for node in model.graph.nodes:
                if node.target in _LEFT and "quantization_annotation" not in node.meta:
                    given = dict.fromkeys(node.all_input_nodes, config.input_activation)
                    node.meta["quantization_annotation"] = annotations.QuantizationAnnotation(
                        input_qspec_map=given, output_qspec=config.output_activation, _annotated=True
                    )
            # Once more for what follows its input, such as pooling.
            return super().annotate(model)

    return Throughout().set_global(config)


def _convolved(plain: nn.Module) -> nn.Module:
    """A copy that standardises by a convolution, which can have eight bits: a subtraction stays floats."""
    copied = copy.deepcopy(plain)
    for name, module in list(copied.named_modules()):
        if isinstance(module, Standardise):
            channels = len(module.mean)
            made = nn.Conv2d(channels, channels, 1, groups=channels)
            made.weight.data = (1 / module.std)[:, None]
            made.bias = nn.Parameter(-(module.mean / module.std).flatten())
            copied.set_submodule(name, made if module.fitted else nn.Identity())
    return copied


def _quantised(
    plain: nn.Module, example: Tensor, views: Tensor, quantizer: Any, **options: bool
) -> nn.Module:
    """The network in eight bits: weights by output channel, activations with ranges as on `views`."""
    pt2e = imported(FORMATS["executorch"], "torchao.quantization.pt2e.quantize_pt2e")
    prepared = pt2e.prepare_pt2e(torch.export.export(plain, (example,)).module(), quantizer)
    with torch.no_grad():
        for view in views:
            prepared(view[None])
    converted: nn.Module = pt2e.convert_pt2e(prepared, **options)
    return converted


@contextmanager
def silent() -> Iterator[None]:
    """What compiled libraries write to standard error by themselves goes nowhere."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _quiet(title: str, plain: nn.Module) -> Iterator[None]:
    """Without the converters' talk. Raises ValueError for a network that they cannot take."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
            silent(),
        ):
            warnings.simplefilter("ignore")
            yield
    except Unusable:
        raise
    except Exception as error:
        reason = one_line(str(error)) or type(error).__name__
        raise ValueError(f"{type(plain).__name__} cannot be exported to {title}: {reason}") from error
    finally:
        logging.disable(before)
