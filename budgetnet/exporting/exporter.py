"""Exporter: a trained model into a file that other programs run, refused where it is not the same model."""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from budgetnet.augment import test_view
from budgetnet.budget import Budget, OverBudget, ledger
from budgetnet.data import Data, Split
from budgetnet.exporting.comparison import BATCH, Comparison, Side, cost, logits, noise, told_apart
from budgetnet.exporting.graph import MOST_BATCH, check_installed, onnx_graph
from budgetnet.exporting.module import KEYS, of_bytes
from budgetnet.exporting.network import network
from budgetnet.exporting.preprocess import JSON, PAGE, as_json, example_input, page, preprocess
from budgetnet.exporting.quantise import int8_graph
from budgetnet.files import check_writable, reason, write_whole
from budgetnet.layers import Standardise
from budgetnet.modelfile import Card, card, described, load, resolved, to_words
from budgetnet.process import VERSION
from budgetnet.recipe import Test
from budgetnet.run import MODEL, Run
from budgetnet.text import percent
from budgetnet.trainer import Images, gather, measured
from budgetnet.values import number, one_of

Format = Literal["onnx", "pt2"]
_CALIBRATED = 256
"""Training images that ranges of activations are taken from."""


@dataclass(frozen=True)
class Int8:
    """Whole numbers of eight bits for weights and activations of an ONNX file.

    The ranges are taken from 256 of the images `calibrate`, by default of the training images, always the
    same ones. The export is refused where it loses more than `tolerate` points of accuracy.
    """

    calibrate: Images | None = None
    tolerate: float = 0.5

    def __post_init__(self) -> None:
        number("Int8's tolerate", self.tolerate, least=0, most=100)


@dataclass(frozen=True)
class Exported:
    """A file that was exported, and how it compares with its model; `print` shows that as a table."""

    file: Path
    comparison: Comparison

    def __str__(self) -> str:
        return f"{self.comparison}\nthe file is {self.file}, what it takes is in {self.file.parent / PAGE}"


@dataclass(frozen=True)
class _Source:
    """What is exported: a copy of the model, its card, (resize, crop) of its test, and its file's bytes."""

    model: nn.Module
    card: Card
    sides: tuple[int, int]
    bytes: int


def export(
    model: nn.Module | Run | str | Path,
    to: Format = "onnx",
    *,
    out: str | Path | None = None,
    data: Data | Images | None = None,
    batch: Literal[1, "dynamic"] = "dynamic",
    int8: bool | Int8 = False,
    bytes: int | str | None = None,
    resolution: int | None = None,
) -> Exported:
    """Write a trained model as ONNX, or as a torch.export program (pt2), where that is the same model.

    `model` is a model, a run, its folder, a model file, or the name of one that comes along. Both are shown
    the images of `data`: its validation images, a Split, photos; without any, soft noise. The file takes
    float images (N, C, H, W) in [0, 1] at the `resolution` of the model's card, one at a time or any number
    of them (`batch`), and gives logits; its metadata have the card, the way to test, and versions. Beside it
    preprocess.json and preprocess.md say how a photo becomes its input. It goes to `out`, else beside the
    model's file. Weights that have few bits keep them. `int8` makes weights and activations eight bits wide
    (see `Int8`); it takes `data` with labels.

    Raises ValueError, and writes nothing, where labels differ but for ties, or logits by more than a
    rounding, or with `int8` too much accuracy is lost; and OverBudget for a file of more than the bytes that
    the model's budget or `bytes` allows.

        print(budgetnet.export("runs/mine-1", "onnx", data=stl10("data")))
    """
    one_of("export's to", to, ("onnx", "pt2"))
    if batch not in (1, "dynamic"):
        raise ValueError(f'export\'s batch should be 1 or "dynamic", not {batch!r:.40}')
    if to == "onnx":
        check_installed()
    elif int8:
        raise ValueError('int8 is for ONNX files: give to="onnx" (--to onnx)')
    source, beside = _source(model, resolution)
    path = Path(out) if out is not None else beside.with_suffix(f".{to}")
    if path.suffix != f".{to}":
        raise ValueError(f"an export to {to} should be a file NAME.{to}, not {path!s:.200}")
    check_writable(path)
    quantised = Int8() if int8 is True else int8 or None
    views = None if quantised is None else _calibration(source, quantised, data)
    content = _pt2(source, batch) if to == "pt2" else _onnx(source, batch, views)
    limit = _limit(source, len(content), path, bytes, int8=quantised is not None)
    compared = _compared(source, content, path, data, limit)
    _check(compared, path, quantised)
    _write(source, content, path)
    return Exported(path, compared)


def _source(model: nn.Module | Run | str | Path, resolution: int | None) -> tuple[_Source, Path]:
    """What is exported, and the file beside which its export lies."""
    beside = file = Path("model")
    if isinstance(model, Run):
        given = model.folder if model.model is None else model.model
        if given is None:
            raise ValueError("the run has no folder and no model: give the model itself")
        beside = file = file if model.folder is None else model.folder / MODEL
        model = given
    if not isinstance(model, nn.Module):
        file = resolved(model)
        file = file / MODEL if file.is_dir() else file
        beside = file if Path(model).exists() else Path(file.name)  # one that comes along is not ours to fill
        model = load(file)
    inside = next((each for each in model.modules() if isinstance(each, Standardise)), None)
    channels = 3 if inside is None else len(inside.mean)
    known = card(model) or described(model, channels=channels)
    if resolution is not None:
        known = replace(known, resize=resolution, crop=resolution)
    if known.crop is None and known.resize is None:
        raise ValueError(
            "this model has no card that says at which resolution it is to be tested: give resolution=, in "
            "pixels"
        )
    sides = Test(known.resize, known.crop).at(known.crop or known.resize or 1)
    copied = copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format)
    weighs = file.stat().st_size if file.is_file() else ledger(model).saved
    return _Source(copied, known, sides, weighs), beside


def _example(source: _Source, batch: Literal[1, "dynamic"]) -> Tensor:
    return torch.rand(1 if batch == 1 else 2, source.card.channels, *[source.sides[1]] * 2)


def _texts(source: _Source, **versions: str | int) -> dict[str, str]:
    """What the file says of itself."""
    words = {
        "card": to_words(source.card),
        "preprocess": preprocess(source.model, source.card, source.sides),
        "versions": {"budgetnet": VERSION, "torch": torch.__version__, **versions},
    }
    return {key: json.dumps(words[key], separators=(",", ":")) for key in KEYS}


def _onnx(source: _Source, batch: Literal[1, "dynamic"], views: Tensor | None) -> bytes:
    """An ONNX file of eight bits where there are `views` for its ranges."""
    import onnx

    plain, codes = network(source.model)
    # With eight bits everywhere the weights have scales of their own.
    few = codes if views is None else {}
    model = onnx_graph(plain, _example(source, batch), few, dynamic=batch != 1)
    if views is not None:
        model = int8_graph(model, views, batch=1 if batch == 1 else 32)
    opset = next(each.version for each in model.opset_import if each.domain == "")
    for key, text in _texts(source, onnx=onnx.__version__, opset=opset).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    content: bytes = model.SerializeToString()
    return content


def _pt2(source: _Source, batch: Literal[1, "dynamic"]) -> bytes:
    """A file of torch.export."""
    plain, _ = network(source.model)
    shapes = None if batch == 1 else ({0: torch.export.Dim("batch", min=1, max=MOST_BATCH)},)
    program = torch.export.export(plain, (_example(source, batch),), dynamic_shapes=shapes)
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=_texts(source))
    return content.getvalue()


def _calibration(source: _Source, int8: Int8, data: Data | Images | None) -> Tensor:
    """The views (N, C, crop, crop) that ranges of activations are taken from."""
    if not isinstance(data, Data | Split):
        raise ValueError(
            "int8 is judged by its accuracy, and needs images with labels: give data= (the recipe, --data)"
        )
    images = int8.calibrate
    if images is None:
        if not isinstance(data, Data):
            raise ValueError("int8 takes its ranges from training images: give calibrate= or a whole Data")
        images = data.train
    if isinstance(images, Split):
        images = images[_some(len(images))][0].cpu()
    given = torch.cat(list(gather(images, source.card, batch_size=256).batches))
    return test_view(given[_some(len(given))], resize=source.sides[0], crop=source.sides[1])


def _some(count: int) -> Tensor:
    """The positions of those of `count` images that calibrate."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:_CALIBRATED].sort().values


def _limit(source: _Source, weighs: int, path: Path, bytes: int | str | None, *, int8: bool) -> int | None:
    """The most bytes that the file may have. Raises OverBudget where it has more."""
    limits = [Budget(bytes=bytes).bytes, (source.card.budget or {}).get("bytes")] if bytes else []
    limits = limits or [(source.card.budget or {}).get("bytes")]
    most = min((each for each in limits if each is not None), default=None)
    if most is not None and weighs > most:
        way = "" if int8 else "export with int8 (--int8), "
        raise OverBudget(
            f"{path.name} would have {weighs:,} bytes, {weighs - most:,} over the budget of {most:,}; {way}"
            "make the network narrower, or compress it (budgetnet compress)",
            ledger(source.model),
        )
    return most


def _compared(
    source: _Source, content: bytes, path: Path, data: Data | Images | None, limit: int | None
) -> Comparison:
    """The model and its export on the same images."""
    batches, labels, what = _images(source.card, data, source.sides)
    exported, _ = of_bytes(content, path)
    seen = [(ours, theirs) for ours, theirs in _both(source, exported, batches)]
    before, after = (torch.cat(each) for each in zip(*seen, strict=True))
    difference, largest, differ, ties = told_apart(before, after)

    def side(said: Tensor, weighs: int, make: Callable[[], nn.Module]) -> Side:
        right = math.nan if labels is None else float((said.argmax(dim=1) == labels).double().mean())
        return Side(right, weighs, cost(make, _example(source, 1)))

    one = side(before, source.bytes, lambda: copy.deepcopy(source.model))
    other = side(after, len(content), lambda: of_bytes(content, path, threads=1)[0])
    return Comparison(len(before), what, difference, largest, differ, ties, one, other, limit)


def _both(source: _Source, exported: nn.Module, batches: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """The logits of both for each batch of uint8 images."""
    for images in batches:
        ours, theirs = (logits(each, images, source.card, source.sides) for each in (source.model, exported))
        yield ours, theirs


def _images(
    card: Card, data: Data | Images | None, sides: tuple[int, int]
) -> tuple[Iterator[Tensor], Tensor | None, str]:
    """Batches of uint8 images, their labels where they have any, and what they are."""
    if data is None:
        side = max(card.stored or (sides[0],))
        return iter(torch.split(noise(card.channels, side), BATCH)), None, "images of noise"
    what = "images"
    if isinstance(data, Data):
        name = "val" if data.val is not None else "test" if data.test is not None else "train"
        what, data = f"{name} images of {data.name}", data.splits[name]
    if isinstance(data, Split):
        shown, _ = measured(data, card, ())
        parts = (shown[at : at + BATCH][0].cpu() for at in range(0, len(shown), BATCH))
        return parts, shown.labels.cpu(), what
    return gather(data, card, batch_size=BATCH).batches, None, what


def _check(compared: Comparison, path: Path, int8: Int8 | None) -> None:
    """Raise ValueError where the export is not to be used."""
    if int8 is None and not compared.same:
        raise ValueError(
            f"{path.name} is not the same model: of {compared.images:,} {compared.what} it labels "
            f"{compared.differ - compared.ties:,} differently, and logits differ by up to "
            f"{compared.difference:.3g}; nothing was written"
        )
    if int8 is not None and not compared.lost <= int8.tolerate:
        was, now = (percent(each.accuracy) for each in (compared.before, compared.after))
        raise ValueError(
            f"{path.name} would lose {compared.lost:.2f} points of accuracy on {compared.images:,} "
            f"{compared.what} ({was} to {now}), more than {int8.tolerate:g}: nothing was written; train with "
            f"Quantised(bits=8), or allow more (--tolerate {math.ceil(10 * compared.lost) / 10:g})"
        )


def _write(source: _Source, content: bytes, path: Path) -> None:
    """The file, and beside it what its input is, in words and as JSON."""
    steps = preprocess(source.model, source.card, source.sides)
    shown = example_input(source.card, source.sides)
    with torch.inference_mode():
        text = page(source.card, steps, shown, of_bytes(content, path)[0](shown))
    beside = {PAGE: text.encode(), JSON: as_json(source.card, steps).encode(), path.name: content}
    try:
        for name, written in beside.items():
            write_whole(path.with_name(name), written)
    except OSError as error:
        raise ValueError(f"{path!s:.200} cannot be written ({reason(error)}): choose another --out") from None
