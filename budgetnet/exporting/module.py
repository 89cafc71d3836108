"""Module: an exported file as a module, so that Trainer.predict and evaluate take it as they take any."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.exporting.graph import INPUT, check_installed
from budgetnet.files import read_whole
from budgetnet.modelfile import BadModelFile, from_words
from budgetnet.text import one_line

SUFFIXES = (".onnx", ".pt2")
KEYS = ("card", "preprocess", "versions")
"""What an exported file says of itself, each as JSON."""
_MOST = 64
"""Images that go through a file of any batch at once."""


class ExportedModel(nn.Module):
    """Float images (B, C, H, W) in [0, 1] to logits (B, K), computed on the CPU by what an export became.

    `shape` is the (C, H, W) that it takes, `batch` how many at once, None for any number.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], shape: tuple[int, ...], batch: int | None) -> None:
        super().__init__()
        # A function, and not a module: what torch.export made has no eval().
        self.run, self.shape, self.batch = run, shape, batch

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K). Raises ValueError for other sides than those that were exported."""
        if tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                f"an exported file takes images of {self.shape} (C, H, W), and these are "
                f"{tuple(images.shape[1:])}: leave the resolution out, or export the model at that one"
            )
        parts = torch.split(images.detach().float().cpu().contiguous(), self.batch or _MOST)
        return torch.cat([self.run(part) for part in parts]).to(images.device)


def read_export(path: str | Path, *, trusted: bool = False) -> nn.Module:
    """The model of a file that `export` wrote, with its card, ready for Trainer.predict and evaluate.

    An ONNX file is run by onnxruntime. A `.pt2` file is a program: torch.export.load may execute what it
    says, so that it is read only if `trusted` says that you know who wrote it. Raises BadModelFile, a
    ValueError.
    """
    path = Path(path)
    if path.suffix == ".pt2" and not trusted:
        raise BadModelFile(
            f"{path} is a program, which torch executes as it reads it: say trusted=True (--trust) if you "
            "know who wrote it, or export the model as ONNX"
        )
    try:
        content = read_whole(path)
    except OSError as error:
        raise BadModelFile(f"{path} cannot be read: {error.strerror or error}") from None
    model, words = of_bytes(content, path)
    if "card" not in words:
        raise BadModelFile(f"{path} has no budgetnet card: it was not written by budgetnet.export")
    try:
        card = from_words(json.loads(words["card"]))
    except (ValueError, TypeError, RecursionError) as error:
        raise BadModelFile(f"{path} has a damaged card: {one_line(str(error))}") from None
    model.card = card  # type: ignore[assignment]
    return model


def of_bytes(
    content: bytes, path: Path, *, threads: int | None = None
) -> tuple[ExportedModel, Mapping[str, str]]:
    """A file's content as a module, and what the file says of itself. Raises BadModelFile."""
    try:
        if path.suffix == ".pt2":
            return _pt2(content)
        check_installed()
        return _onnx(content, threads or torch.get_num_threads())
    except BadModelFile:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and "budgetnet[onnx]" in str(error):
            raise
        raise BadModelFile(f"{path} is damaged: {one_line(str(error)) or type(error).__name__}") from None


def _onnx(content: bytes, threads: int) -> tuple[ExportedModel, Mapping[str, str]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])

    batch, *shape = session.get_inputs()[0].shape
    model = ExportedModel(run, tuple(shape), batch if isinstance(batch, int) else None)
    return model, session.get_modelmeta().custom_metadata_map


def _pt2(content: bytes) -> tuple[ExportedModel, Mapping[str, str]]:
    words: dict[str, Any] = dict.fromkeys(KEYS, "")
    program = torch.export.load(io.BytesIO(content), extra_files=words)
    taken = next(node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs)
    batch, *shape = taken.meta["val"].shape
    made = program.module()

    def run(images: Tensor) -> Tensor:
        logits: Tensor = made(images)
        return logits

    model = ExportedModel(run, tuple(map(int, shape)), batch if isinstance(batch, int) else None)
    return model, {key: _text(value) for key, value in words.items() if value}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
