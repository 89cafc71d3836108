"""A model measured at many resolutions: figures, cost and pace at each, as a table and as a plot."""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from budgetnet.budget import macs
from budgetnet.data import Split
from budgetnet.engine import Scoring, check_logits, evaluate
from budgetnet.modelfile import Card, card
from budgetnet.page import write_figure
from budgetnet.pictures import blank
from budgetnet.recipe import Test
from budgetnet.run import Run
from budgetnet.text import aligned
from budgetnet.trainer import Trainer, measured
from budgetnet.values import finite, whole

PLOT = "resolutions.png"
"""What the plot in a run's folder is called."""

_WARM = 8  # images that are measured first and not timed


@dataclass(frozen=True)
class AtResolution:
    """A model's figures on images resized to `resize` pixels and cropped to `resolution`.

    Accuracies are in [0, 1], `loss` in nats, `macs` those of one image; `images_per_second` is the pace of
    the whole test, resizing included. Where the model does not fit, `reason` says why and the rest is NaN.
    """

    resolution: int
    resize: int
    accuracy: float = math.nan
    top5: float = math.nan
    loss: float = math.nan
    macs: int | None = None
    images_per_second: float = math.nan
    reason: str = ""

    @property
    def fits(self) -> bool:
        """Whether the model takes images of this size."""
        return not self.reason


@dataclass(frozen=True, repr=False)
class Resolutions:
    """A model at rising resolutions, on so many images; `str()` is a table, `save_plot` draws a picture.

    `trained` are the resolutions in pixels that it was trained at, as far as they are known.
    """

    rows: tuple[AtResolution, ...]
    images: int
    trained: tuple[int, ...] = ()

    @cached_property
    def best(self) -> AtResolution:
        """The row of the highest accuracy, the smallest resolution among equals."""
        return max((row for row in self.rows if row.fits), key=lambda row: (row.accuracy, -row.resolution))

    def marks(self, row: AtResolution) -> str:
        """What is to be said of a row: "best", "trained", "trained, best" or ""."""
        said = ("trained" if row.resolution in self.trained else "", "best" if row == self.best else "")
        return ", ".join(filter(None, said))

    def __repr__(self) -> str:
        head = ("resolution", "accuracy", "top-5", "loss", "MACs", "images/s", "")
        lines = [head, *(self._cells(row) for row in self.rows)]
        notes = [f"note: {row.resolution} px: {row.reason}" for row in self.rows if row.reason]
        return "\n".join([aligned(lines, left=[len(head) - 1]), *notes])

    def json(self) -> str:
        """Rows, best and trained resolutions as one JSON object; what was not measured is null."""
        rows = [{name: finite(value) for name, value in asdict(row).items()} for row in self.rows]
        fits = [{"fits": row.fits, "marks": self.marks(row)} for row in self.rows]
        entries = {"images": self.images, "trained": list(self.trained), "best": self.best.resolution}
        return json.dumps({**entries, "rows": [row | more for row, more in zip(rows, fits)]}, indent=2)

    def _cells(self, row: AtResolution) -> tuple[str, ...]:
        if not row.fits:
            return (f"{row.resolution} px", "-", "-", "-", "-", "-", "does not fit")
        return (
            f"{row.resolution} px",
            f"{100 * row.accuracy:.2f} %",
            f"{100 * row.top5:.2f} %",
            f"{row.loss:.4f}",
            f"{row.macs:,}",
            f"{row.images_per_second:,.0f}",
            self.marks(row),
        )


def by_resolution(
    trainer: Trainer,
    model: nn.Module,
    split: Split,
    resolutions: Iterable[int],
    *,
    classes: Sequence[str] = (),
    trained: Iterable[int] = (),
    batch_size: int = 256,
) -> Resolutions:
    """Measure `model` over `split` at each of the resolutions in pixels, on the trainer's device.

    Images are tested as the model's card says, its resize and crop in proportion and the same looks averaged,
    or resized to the resolution where it has none; labels are counted as `Trainer.evaluate` does. A
    resolution that does not fit the model is a row that says so. Raises ValueError for no or impossible
    resolutions, an empty split, and where none fits. Reference: https://arxiv.org/abs/1906.06423.

    ::

        measured = by_resolution(Trainer(), load("runs/fixres_stl10-1"), stl10().val, range(60, 201, 20))
        print(measured, measured.best.resolution)
    """
    whole("by_resolution's batch_size", batch_size)
    sizes = list(resolutions)
    for size in sizes:
        whole("a resolution in pixels", size)
    if not sizes:
        raise ValueError("there are no resolutions to measure at; name some: [64, 96, 128]")
    split, names = measured(split, card(model), classes)
    scoring = Scoring(names)
    known = card(model) or Card()
    model.to(trainer.device)
    moved = split.to(trainer.device)
    channels = int(split.images.shape[1])
    rows: list[AtResolution] = []
    for size in sorted(set(sizes)):
        resize = size * known.resize // known.crop if known.resize and known.crop else size
        try:
            test = Test(resize, size, mirror=known.mirror, shift=known.shift)
            check_logits(model, len(names), size, channels)
        except ValueError as error:
            rows.append(AtResolution(size, resize, reason=str(error)))
            continue
        if all(row.reason for row in rows):
            # The first images of all pay for what the device sets up once.
            evaluate(model, moved.subset(slice(_WARM)), scoring, test, engine=trainer.engine, resolution=size)
        begun = time.perf_counter()
        evaluation = evaluate(
            model, moved, scoring, test, engine=trainer.engine, resolution=size, batch_size=batch_size
        )
        pace = evaluation.images / (time.perf_counter() - begun)
        cost = macs(model, size, channels=channels)
        rows.append(
            AtResolution(size, resize, evaluation.accuracy, evaluation.top5, evaluation.loss, cost, pace)
        )
    if all(row.reason for row in rows):
        raise ValueError(f"none of these resolutions can be measured: {rows[-1].reason}")
    return Resolutions(tuple(rows), len(split), tuple(sorted(set(trained))))


def trained_at(run: Run) -> tuple[int, ...]:
    """The resolutions in pixels that the phases of a run were trained at, rising; of a ramp its two ends."""
    recipe = run.record.get("recipe")
    phases = recipe.get("phases") if isinstance(recipe, Mapping) else None
    sizes: set[int] = set()
    for phase in phases if isinstance(phases, Sequence) else ():
        size = phase.get("resolution") if isinstance(phase, Mapping) else None
        ends = [size.get("first"), size.get("last")] if isinstance(size, Mapping) else [size]
        sizes |= {end for end in ends if isinstance(end, int)}
    return tuple(sorted(sizes))


def save_plot(resolutions: Resolutions, path: str | Path, *, title: str = "") -> None:
    """Draw accuracy and MACs against resolution into a PNG file, the trained and the best marked.

    Raises ValueError where the file cannot be written, and `NoPlot` without matplotlib.
    """
    figure = blank(8, 4.5)
    axes = figure.subplots()
    _draw(axes, resolutions)
    if title:
        axes.set_title(title)
    write_figure(figure, path)


def _draw(axes: Any, resolutions: Resolutions) -> None:
    """The two curves into matplotlib's axes."""
    rows, best = [row for row in resolutions.rows if row.fits], resolutions.best
    sizes = [row.resolution for row in rows]
    for number, size in enumerate(resolutions.trained):
        label = "trained at" if number == 0 else None
        axes.axvline(size, color="0.6", linestyle="--", linewidth=1, label=label, zorder=0)
    axes.plot(sizes, [100 * row.accuracy for row in rows], "o-", color="C0", label="accuracy")
    said = f"best: {100 * best.accuracy:.2f} % at {best.resolution} px"
    axes.plot(best.resolution, 100 * best.accuracy, "*", color="C3", markersize=14, label=said)
    costs = axes.twinx()
    costs.plot(sizes, [(row.macs or 0) / 1e6 for row in rows], "s:", color="C1", label="MACs")
    costs.set_ylim(bottom=0)
    costs.set_ylabel("MACs per image (millions)")
    axes.set_xlabel("resolution (pixels)")
    axes.set_ylabel(f"accuracy (%) on {resolutions.images:,} images")
    handles = [each.get_legend_handles_labels() for each in (axes, costs)]
    both = (first + second for first, second in zip(*handles))
    axes.figure.legend(*both, loc="outside lower center", ncols=4, frameon=False)
