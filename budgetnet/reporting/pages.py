"""Pages: the report and the pictures of runs that are over, with what can be measured of their models now."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from budgetnet.budget import built, ledger
from budgetnet.compare import Comparison, compare, read_runs
from budgetnet.data import Data
from budgetnet.guard import flattered
from budgetnet.metrics import interval_text
from budgetnet.modelfile import card, load
from budgetnet.page import (
    PAGE,
    Extra,
    chart,
    make_folder,
    page,
    phase_views,
    save_png,
    several,
    views,
    write_figure,
    write_file,
)
from budgetnet.pictures import NoPlot, charts_figure, confusion_figure
from budgetnet.recipe import Recipe
from budgetnet.reporting.resolutions import Resolutions, by_resolution, save_plot, trained_at
from budgetnet.run import MODEL, Run, curves
from budgetnet.text import duration
from budgetnet.trainer import Evaluation, Trainer

PICTURES = "pictures"
"""The folder beside a report that has its pictures as files."""
_SECONDS = 120.0
"""How long measuring at many resolutions may take."""
_SIDES = (1.0, 1.25, 0.8, 1.5, 0.65, 1.75, 0.5)
"""The resolutions that are measured, as parts of the model's own; the first ones where time is short."""


@dataclass(frozen=True)
class Report:
    """Where a report lies, its pictures, and notes on what it lacks."""

    page: Path
    pictures: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"note: {note}" for note in self.notes]
        if self.pictures:
            folder = self.pictures[0].parent
            lines.append(f"wrote {folder}: {', '.join(path.name for path in self.pictures)}")
        return "\n".join([*lines, f"wrote {self.page}"])


@dataclass
class _Drawn:
    """The pictures that a report writes into its folder, and what could not be drawn."""

    folder: Path
    paths: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def figure(self, name: str, make: Any) -> None:
        """Write the figure that `make` gives as PNG and SVG; without matplotlib one note says so."""
        try:
            figure = make()
            for ending in ("png", "svg"):
                make_folder(self.folder)
                write_figure(figure, self.folder / f"{name}.{ending}")
                self.paths.append(self.folder / f"{name}.{ending}")
        except NoPlot as error:
            self.notes += [str(error)] if str(error) not in self.notes else []


def report(
    runs: Run | str | Path | Sequence[Run | str | Path],
    *,
    data: Data | None = None,
    recipe: Recipe | None = None,
    model: nn.Module | None = None,
    out: str | Path | None = None,
    trainer: Trainer | None = None,
    missing: str = "",
) -> Report:
    """Write report.html of a run, or of several runs beside one another, and its pictures as PNG and SVG.

    `runs` are Runs or their folders. One run's report lies in its folder, or in `out`; that of several in
    `out`, by default the folder `report`. The page needs nothing but itself. With `data` the run's model is
    measured on the validation images: the confusion matrix, the images that it mistakes most confidently,
    and accuracy over resolutions; with `recipe` besides, it shows training views. Else the page says what is
    `missing`. `model` is needed where budgetnet cannot build it from its file. Raises ValueError for a folder
    that holds no run, and where nothing can be written.

    ::

        print(report("runs/run-1", data=data, recipe=recipe))
    """
    found = read_runs(runs)
    if len(found) > 1:
        return _several(compare(found), Path(out or "report"))
    (run,) = found
    folder = Path(out) if out is not None else run.folder
    if folder is None:
        raise ValueError("a run that has no folder is reported into out=: name a folder")
    trainer = trainer or Trainer(out=None, show=False)
    drawn = _Drawn(folder / PICTURES)
    why = missing or "its data were not given: report(run, data=..., recipe=...)"
    extra = Extra(missing=dict.fromkeys(("evaluation", "views", "resolutions", "ledger"), why))
    trained, reason = (model, "") if model is not None else _model(run)
    if trained is None:
        extra = _without(extra, ("evaluation", "resolutions", "ledger"), reason)
    else:
        extra = _counted(run, trained, extra)
    if trained is not None and data is not None:
        extra = _measured(run, trained, data, trainer, extra, drawn)
    if data is not None:
        extra = _viewed(data, recipe, extra, drawn)
    drawn.figure("curves", lambda: charts_figure(curves({"": [run]})))
    make_folder(folder)
    write_file(page(run, extra).encode(), folder / PAGE)
    return Report(folder / PAGE, tuple(drawn.paths), tuple(drawn.notes))


def _without(extra: Extra, sections: Iterable[str], why: str) -> Extra:
    return replace(extra, missing={**extra.missing, **dict.fromkeys(sections, why)})


def _model(run: Run) -> tuple[nn.Module | None, str]:
    """The model of a run, or why there is none."""
    if run.model is not None:
        return run.model, ""
    if run.folder is None or not (run.folder / MODEL).exists():
        return None, f"the run has saved no {MODEL}"
    try:
        return load(run.folder / MODEL), ""
    except ValueError as error:
        return None, str(error)


def _counted(run: Run, model: nn.Module, extra: Extra) -> Extra:
    known = card(model)
    sizes = (known.crop if known is not None else None, *reversed(trained_at(run)))
    size = next((size for size in sizes if size), None)
    try:
        origin = built(model)
        stored = None if origin is None else origin.budget.stored
        return replace(extra, ledger=ledger(model, size, stored=stored))
    except ValueError as error:
        return _without(extra, ("ledger",), str(error))


def _measured(run: Run, model: nn.Module, data: Data, trainer: Trainer, extra: Extra, drawn: _Drawn) -> Extra:
    """What the model says of the validation images, at its own resolution and at others."""
    split = data.val
    if split is None:
        return _without(extra, ("evaluation", "resolutions"), f"{data.name} has no validation images")
    notes = [*extra.notes, *flattered(split, "val", run.record, run.folder)]
    try:
        begun = time.perf_counter()
        evaluation = trainer.evaluate(model, split)
        spent = time.perf_counter() - begun
    except ValueError as error:
        return _without(extra, ("evaluation", "resolutions"), str(error))
    drawn.figure("confusion", lambda: confusion_figure(evaluation.pairs, evaluation.classes))
    extra = replace(extra, evaluation=evaluation, split=split, notes=tuple(notes))
    sizes = _sizes(evaluation, spent)
    if len(sizes) < 2:
        long = duration(2 * spent)
        return _without(extra, ("resolutions",), f"measuring at two resolutions would take some {long}")
    try:
        found = by_resolution(trainer, model, split, sizes, trained=trained_at(run))
    except ValueError as error:
        return _without(extra, ("resolutions",), str(error))
    _draw_resolutions(found, drawn)
    fits = [row for row in found.rows if row.fits]
    accuracies = [(float(row.resolution), 100 * row.accuracy) for row in fits]
    costs = [(float(row.resolution), (row.macs or 0) / 1e6) for row in fits]
    best = found.best.resolution
    charts = (
        chart(f"accuracy (%) on {found.images:,} images", accuracies, found.trained, best),
        chart("MACs per image (millions)", costs, found.trained, best),
    )
    return replace(extra, resolutions=charts)


def _draw_resolutions(found: Resolutions, drawn: _Drawn) -> None:
    """The plot over resolutions as files."""
    try:
        make_folder(drawn.folder)
        for ending in ("png", "svg"):
            path = drawn.folder / f"resolutions.{ending}"
            save_plot(found, path)
            drawn.paths.append(path)
    except NoPlot as error:
        drawn.notes += [str(error)] if str(error) not in drawn.notes else []


def _sizes(evaluation: Evaluation, spent: float) -> list[int]:
    """The resolutions to measure at, as many as the time allows; the model's own took `spent` seconds."""
    own, sizes, left = evaluation.resolution, list[int](), _SECONDS
    unit = 8 if own >= 48 else 2 if own >= 16 else 1
    for part in _SIDES:
        size = own if part == 1.0 else max(unit, round(own * part / unit) * unit)
        left -= spent * (size / own) ** 2
        if left < 0:
            break
        sizes.append(size)
    return sorted(set(sizes))


def _viewed(data: Data, recipe: Recipe | None, extra: Extra, drawn: _Drawn) -> Extra:
    """The training views of each phase."""
    if recipe is None:
        return _without(extra, ("views",), "its recipe was not given: report(run, recipe=...)")
    try:
        for number, phase in enumerate(recipe.phases[:4], start=1):
            path = drawn.folder / f"views-{number}.png"
            make_folder(drawn.folder)
            save_png(views(data.train, phase, classes=len(data.classes), seed=recipe.seed), path)
            drawn.paths.append(path)
        return replace(extra, views=phase_views(data.train, recipe, data.classes))
    except ValueError as error:
        return _without(extra, ("views",), str(error))


def _several(comparison: Comparison, folder: Path) -> Report:
    """The report of several runs: their figures, what differs between them, and their curves."""
    groups = comparison.groups
    many = len(groups) > 1
    named = {f"{group.name}: {group.label}" if many else group.label: group.runs for group in groups}
    charts = curves(named)
    drawn = _Drawn(folder / PICTURES)
    drawn.figure("curves", lambda: charts_figure(charts))
    tables = {"Figures": _figures(comparison)}
    if comparison.differences:
        head = ("", *(group.name for group in groups))
        tables["What differs"] = [head, *((each.path, *each.texts) for each in comparison.differences)]
    notes = [*map(str, comparison.contrasts), *comparison.notes]
    make_folder(folder)
    title = f"{len(comparison.runs)} runs"
    write_file(several(title, charts, tables, notes).encode(), folder / PAGE)
    return Report(folder / PAGE, tuple(drawn.paths), tuple(drawn.notes))


def _figures(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row for each group: its finished runs; mean, deviation and Student's interval of each figure."""
    shown = {"val_accuracy": "validation", "test_accuracy": "test", "train_accuracy": "train"}
    shown = {what: title for what, title in shown.items() if any(g.figure(what).n for g in comparison.groups)}
    titles = [cell for title in shown.values() for cell in (title, "95 % interval")]
    rows: list[tuple[str, ...]] = [("group", "runs", "finished", *titles, "time each")]
    for group in comparison.groups:
        figures = [group.figure(what) for what in shown]
        seconds = group.figure("seconds").mean
        spent = duration(seconds) if math.isfinite(seconds) else "-"
        cells = [cell for each in figures for cell in (each.percent(), interval_text(each.interval) or "-")]
        rows.append((group.name, group.label, str(len(group.finished)), *cells, spent))
    return rows
