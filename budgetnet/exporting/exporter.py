"""Exporter: a trained model into a file that other programs run, refused where it is not the same model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from budgetnet.augment import test_view
from budgetnet.budget import Budget, OverBudget, ledger
from budgetnet.data import Data, Split
from budgetnet.engine import no_numbers
from budgetnet.exporting.arena import Program
from budgetnet.exporting.beside import PAGE, beside
from budgetnet.exporting.comparison import BATCH, Comparison, Side, cost, logits, noise, told_apart
from budgetnet.exporting.content import Batch, whole_file
from budgetnet.exporting.embedded import c_source, is_ours, program_of, read_c, weight, within
from budgetnet.exporting.footprint import footprint
from budgetnet.exporting.formats import FORMATS, Format, FormatName, check_installed
from budgetnet.exporting.module import of_bytes
from budgetnet.exporting.source import Source, source_of
from budgetnet.exporting.written import HEADER, write
from budgetnet.files import check_writable
from budgetnet.metrics import unanswered
from budgetnet.modelfile import Card
from budgetnet.run import Run
from budgetnet.text import percent
from budgetnet.trainer import Images, gather, measured
from budgetnet.values import number, one_of

_ARRAY = FORMATS["c"].suffix
_CALIBRATED = 256
"""Training images that ranges of activations are taken from."""


@dataclass(frozen=True)
class Int8:
    """Whole numbers of eight bits for weights and activations of a file.

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
        header = f" with {self.file.with_suffix(HEADER).name}" if self.file.suffix == _ARRAY else ""
        taken = beside(self.file, PAGE)
        return f"{self.comparison}\nthe file is {self.file}{header}, what it takes is in {taken}"


def export(
    model: nn.Module | Run | str | Path,
    to: FormatName = "onnx",
    *,
    out: str | Path | None = None,
    data: Data | Images | None = None,
    batch: Batch | None = None,
    int8: bool | Int8 = False,
    bytes: int | str | None = None,
    ram: int | str | None = None,
    resolution: int | None = None,
) -> Exported:
    """Write a trained model as ONNX, as a program of torch.export (pt2), of ExecuTorch or of LiteRT, or in C.

    `model` is a model, a run, its folder, a model file, or the name of one that comes along. Both are shown
    the images of `data`: its validation images, a Split, photos; without any, soft noise. The file takes
    float images (N, C, H, W) in [0, 1] at the `resolution` of the model's card, and gives logits: any number
    of them ("dynamic", which onnx and pt2 are unless `batch` is 1), or one at a time. It says its card, the
    way to test, and versions. Beside it preprocess.json and preprocess.md say how a photo becomes its input,
    and card.md is its card: FILE.card.md and so on where files of these names are no export's.
    It goes to `out`, else beside the model's file, over an older export. Weights that have few bits keep
    them in ONNX. `int8` makes weights and activations eight bits wide (see `Int8`); it takes `data` with
    labels. In "c" the LiteRT program is an array, for LiteRT for Microcontrollers, with a header beside it
    that says its scales and the arena that it needs, which `ram` limits; `bytes` are those of the array.
    C of your own is not written over.

    Raises ValueError, and writes nothing, where labels differ but for ties, or logits by more than a
    rounding, or with `int8` too much accuracy is lost; and OverBudget for a file of more than the bytes that
    the model's budget or `bytes` allows.

        print(budgetnet.export("runs/mine-1", "onnx", data=stl10("data")))
    """
    one_of("export's to", to, tuple(FORMATS))
    form = FORMATS[to]
    batch = _batch(form, batch)
    if int8 and not form.int8:
        raise ValueError('a pt2 file holds floats, and int8 needs another format: give to="onnx" (--to onnx)')
    if ram is not None and to != "c":
        raise ValueError(f"ram limits the arena of an export to C (--to c), and this one is to {to}")
    most = None if ram is None else Budget(ram=ram, resolution=1).ram
    check_installed(form)
    source, by = source_of(model, resolution)
    path = Path(out) if out is not None else by.with_suffix(form.suffix)
    if path.suffix != form.suffix:
        raise ValueError(f"an export to {to} should be a file NAME{form.suffix}, not {path!s:.200}")
    _check_place(path)
    quantised = Int8() if int8 is True else int8 or None
    views = None if quantised is None else _calibration(source, quantised, data)
    content = whole_file(source, to, batch, views)
    if to == "c":
        content = c_source(content, path.stem).encode()
    limit = _limit(source, weight(content, path), path, bytes, int8=quantised is not None)
    arena = _arena(source, content, path, most)
    compared = replace(_compared(source, content, path, data, limit), arena=arena)
    _check(compared, path, quantised)
    compared = _with_memory(compared, source, content, path)
    write(source, content, path, str(compared))
    return Exported(path, compared)


def _check_place(path: Path) -> None:
    """Refuse a file that cannot be written, and C of the user's own. Raises ValueError."""
    if path.suffix != _ARRAY:
        check_writable(path)
        return
    for file in (path, path.with_suffix(HEADER)):
        check_writable(file)
        if file.exists() and not is_ours(file):
            raise ValueError(
                f"{file!s:.200} is there already, and no export wrote it: choose another --out, or move it"
            )


def _batch(form: Format, batch: Batch | None) -> Batch:
    """How many images a file takes at once. Raises ValueError for what its format cannot do."""
    if batch not in (None, 1, "dynamic"):
        raise ValueError(f'export\'s batch should be 1 or "dynamic", not {batch!r:.40}')
    if batch == "dynamic" and not form.any_number:
        raise ValueError(
            f"{form.title} plans its memory for one image at a time: batch should be 1 (--batch 1), not "
            '"dynamic"'
        )
    return batch or ("dynamic" if form.any_number else 1)


def _calibration(source: Source, int8: Int8, data: Data | Images | None) -> Tensor:
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
    views = test_view(given[_some(len(given))], resize=source.sides[0], crop=source.sides[1])
    with torch.inference_mode():
        _check_answers(source.model(views))
    return views


def _some(count: int) -> Tensor:
    """The positions of those of `count` images that calibrate."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:_CALIBRATED].sort().values


def _limit(source: Source, weighs: int, path: Path, bytes: int | str | None, *, int8: bool) -> int | None:
    """The most bytes that the file may have. Raises OverBudget where it has more."""
    own = source.card.budget or {}
    # A budget of the file of eight bits says nothing of one of floats.
    limits = [own.get("bytes") if int8 or "stored" not in own else None]
    if bytes is not None:
        limits.append(Budget(bytes=bytes).bytes)
    most = min((each for each in limits if each is not None), default=None)
    if most is not None and weighs > most:
        way = "" if int8 else "export with int8 (--int8), "
        raise OverBudget(
            f"{path.name} would have {weighs:,} bytes, {weighs - most:,} over the budget of {most:,}; {way}"
            "make the network narrower, or compress it (budgetnet compress)",
            ledger(source.model),
        )
    return most


def _arena(source: Source, content: bytes, path: Path, most: int | None) -> int | None:
    """The arena that an export to C takes at most. Raises OverBudget where that is more than `most`."""
    if path.suffix != _ARRAY:
        return None
    program = Program(program_of(read_c(content.decode())))
    if most is not None and program.arena > most:
        raise OverBudget(
            f"{path.name} would take an arena of {program.arena:,} bytes, {program.arena - most:,} over the "
            f"budget of {most:,}, {program.planned:,} of them for activations; lower the resolution, or make "
            "the first maps narrower (Budget(ram=, stored='int8') before training)",
            ledger(source.model),
        )
    return program.arena


def _compared(
    source: Source, content: bytes, path: Path, data: Data | Images | None, limit: int | None
) -> Comparison:
    """The model and its export on the same images."""
    batches, labels, what = _images(source.card, data, source.sides)
    exported, _ = of_bytes(content, path)
    seen = [(ours, theirs) for ours, theirs in _both(source, exported, batches)]
    before, after = (torch.cat(each) for each in zip(*seen, strict=True))
    _check_answers(before)
    difference, largest, differ, ties = told_apart(before, after)

    def side(said: Tensor, weighs: int, make: Callable[[], nn.Module]) -> Side:
        right = math.nan if labels is None else float((said.argmax(dim=1) == labels).double().mean())
        return Side(right, weighs, cost(make, source.example(1)))

    one = side(before, source.bytes, lambda: copy.deepcopy(source.model))
    other = side(after, weight(content, path), lambda: of_bytes(content, path, threads=1)[0])
    return Comparison(len(before), what, difference, largest, differ, ties, one, other, limit)


def _check_answers(said: Tensor) -> None:
    """Raise ValueError where logits (N, K) of the model itself are no numbers."""
    if wrong := unanswered(said):
        raise ValueError(f"{no_numbers(wrong, len(said))}, and nothing was written: train it anew")


def _both(source: Source, exported: nn.Module, batches: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
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
            f"{compared.what} ({was} to {now}), more than {int8.tolerate:g}: nothing was written; let it "
            "learn to do with eight bits (budgetnet compress RUN RECIPE --int8, or Quantised(bits=8, "
            f"activations=8)), or allow more (--tolerate {math.ceil(10 * compared.lost) / 10:g})"
        )


def _with_memory(compared: Comparison, source: Source, content: bytes, path: Path) -> Comparison:
    """The comparison with the memory of both, each in a process of its own."""
    shape = tuple(source.example(1).shape[1:])
    with TemporaryDirectory() as folder:
        program, ran = within(content, path)
        original, exported = Path(folder) / "original.pickle", Path(folder) / f"exported{ran.suffix}"
        exported.write_bytes(program)
        try:
            torch.save(source.model, original)
        except Exception:
            return compared  # a class that no other process knows cannot be pickled
        before, after = (footprint(file, shape) for file in (original, exported))
    if before is None or after is None:
        return compared
    one, other = (
        replace(side, peak=peak, working=working)
        for side, (peak, working) in ((compared.before, before), (compared.after, after))
    )
    return replace(compared, before=one, after=other)
