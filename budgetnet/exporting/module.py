"""Module: an exported file as a module, so that Trainer.predict and evaluate take it as they take any."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from budgetnet.budget import DoesNotFit
from budgetnet.exporting.beside import stranger
from budgetnet.exporting.embedded import within
from budgetnet.exporting.formats import (
    FORMATS,
    KEYS,
    Unusable,
    check_installed,
    imported,
    is_sealed,
    of_suffix,
    words_behind,
)
from budgetnet.exporting.graph import INPUT
from budgetnet.exporting.mobile import silent
from budgetnet.files import read_whole
from budgetnet.modelfile import BadModelFile, Card, from_words
from budgetnet.text import one_line

_MOST = 64
"""Images that go through a file of any batch at once."""


class Scale(NamedTuple):
    """Whole numbers of eight bits: a code stands for (code - zero) * step."""

    step: float
    zero: int

    def of(self, numbers: Tensor) -> Tensor:
        """The codes of some numbers, int8."""
        return (numbers / self.step).round().add(self.zero).clamp(-128, 127).to(torch.int8)

    def numbers(self, codes: Tensor) -> Tensor:
        """What they stand for, float32."""
        return (codes.float() - self.zero) * self.step


class ExportedModel(nn.Module):
    """Float images (B, C, H, W) in [0, 1] to logits (B, K), computed on the CPU by what an export became.

    `shape` is the (C, H, W) that it takes, `batch` how many at once, None for any number. `scales` are those
    of the file's own input and output, where these are whole numbers.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        shape: tuple[int, ...],
        batch: int | None,
        scales: tuple[Scale, Scale] | None = None,
    ) -> None:
        super().__init__()
        # A function, and not a module: what torch.export made has no eval().
        self.run, self.shape, self.batch, self.scales = run, shape, batch, scales

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K). Raises DoesNotFit, a ValueError, for sides that were not exported."""
        if tuple(images.shape[1:]) != self.shape:
            raise DoesNotFit(
                f"an exported file takes images of {self.shape} (C, H, W), and these are "
                f"{tuple(images.shape[1:])}: leave the resolution out, or export the model at that one"
            )
        parts = torch.split(images.detach().float().cpu().contiguous(), self.batch or _MOST)
        return torch.cat([self.run(part) for part in parts]).to(images.device)


def read_export(path: str | Path, *, trusted: bool = False) -> nn.Module:
    """The model of a file that `export` wrote, with its card, ready for Trainer.predict and evaluate.

    An ONNX file is run by onnxruntime, a `.pte` file by ExecuTorch, a `.tflite` or `.c` file by LiteRT. A
    `.pt2` file is a program: torch.export.load may execute what it says, so that it is read only if `trusted`
    says that you know who wrote it. Raises BadModelFile, a ValueError, for a file that is not, byte for byte,
    what was exported, or not the one that preprocess.json beside it was written for.
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
    known = _card(words, path)
    _check_like(model, known, path, content)
    model.card = known  # type: ignore[assignment]
    return model


def _card(words: Mapping[str, str], path: Path) -> Card:
    if "card" not in words:
        raise BadModelFile(f"{path} has no budgetnet card: it was not written by budgetnet.export")
    try:
        return from_words(json.loads(words["card"]))
    except (ValueError, TypeError, RecursionError) as error:
        raise BadModelFile(f"{path} has a damaged card: {one_line(str(error))}") from None


def of_bytes(
    content: bytes, path: Path, *, threads: int | None = None
) -> tuple[ExportedModel, Mapping[str, str]]:
    """A file's content as a module, and what the file says of itself. Raises BadModelFile."""
    check_installed(of_suffix(path.suffix), writing=False)
    try:
        content, ran = within(content, path)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadModelFile(f"{path} is damaged: {one_line(str(error)) or type(error).__name__}") from None
    form = of_suffix(ran.suffix)
    if not is_sealed(content):
        raise BadModelFile(f"{path} is damaged, or has been changed since budgetnet exported it")
    run = {".pt2": _pt2, ".pte": _executorch, ".tflite": _litert}.get(form.suffix, _onnx)
    try:
        return run(content, threads or torch.get_num_threads())
    except Unusable:
        raise
    except Exception as error:
        raise BadModelFile(f"{path} is damaged: {one_line(str(error)) or type(error).__name__}") from None


def _onnx(content: bytes, threads: int) -> tuple[ExportedModel, Mapping[str, str]]:
    onnxruntime = imported(FORMATS["onnx"], "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])

    batch, *shape = session.get_inputs()[0].shape
    model = ExportedModel(run, tuple(shape), batch if isinstance(batch, int) else None)
    return model, session.get_modelmeta().custom_metadata_map


def _pt2(content: bytes, threads: int) -> tuple[ExportedModel, Mapping[str, str]]:
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


def _executorch(content: bytes, threads: int) -> tuple[ExportedModel, Mapping[str, str]]:
    runtime = imported(FORMATS["executorch"], "executorch.runtime").Runtime.get()
    program = runtime.load_program(content)
    batch, *shape = program.load_method("forward").metadata.input_tensor_meta(0).sizes()

    def run(images: Tensor) -> Tensor:
        # Asked of the program, which keeps its bytes: a method does not, and would read what is freed.
        logits: Tensor = program.load_method("forward").execute([images])[0]
        return logits

    return ExportedModel(run, tuple(shape), batch), words_behind(content)


def _litert(content: bytes, threads: int) -> tuple[ExportedModel, Mapping[str, str]]:
    interpreters = imported(FORMATS["litert"], "ai_edge_litert.interpreter")
    with silent():
        interpreter = interpreters.Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    # Of eight bits throughout its input and output are so, too.
    first, last = (Scale(*each["quantization"]) for each in (taken, given))
    scales = (first, last) if first.step else None

    def run(images: Tensor) -> Tensor:
        interpreter.set_tensor(taken["index"], (images if scales is None else first.of(images)).numpy())
        interpreter.invoke()
        logits = torch.from_numpy(interpreter.get_tensor(given["index"]))
        return logits if scales is None else last.numbers(logits)

    batch, *shape = map(int, taken["shape"])
    return ExportedModel(run, tuple(shape), batch, scales), words_behind(content)


def _check_like(model: ExportedModel, card: Card, path: Path, content: bytes) -> None:
    """Raise BadModelFile where a file is not the one that its card, or preprocess.json beside it, is of."""
    outputs = model(torch.zeros(model.batch or 1, *model.shape)).shape[1]
    if card.classes and len(card.classes) != outputs:
        raise BadModelFile(
            f"{path} gives {outputs} logits, and its card names {len(card.classes)} classes: it is another "
            "model's"
        )
    if model.shape[0] != card.channels:
        raise BadModelFile(
            f"{path} takes {model.shape[0]} channels, and its card says {card.channels}: it is another "
            "model's"
        )
    beside = stranger(path, content)
    if beside is not None:
        raise BadModelFile(
            f"{path} is not the file that {beside.name} beside it was written for: export it again, or move "
            "it to a folder of its own"
        )
