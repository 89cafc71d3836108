"""Content: what a report says of a run, as plain values for its template."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from budgetnet.budget import Budget, Ledger
from budgetnet.data import Split
from budgetnet.metrics import class_rows
from budgetnet.page.images import strips, uri
from budgetnet.page.recorded import facts, headlines, spent
from budgetnet.pictures import FEW, Chart, Line, Sketch, cells, rendered
from budgetnet.process import VERSION
from budgetnet.recipe import Recipe
from budgetnet.run import Run, curves
from budgetnet.text import counted, duration, percent, size

PAGE = "report.html"
"""What a run's report is called, in the run's folder."""
_TEMPLATES = Path(__file__).parent / "templates"
_THUMB = 112
_ROWS = 40
"""Modules of a ledger that a report lists."""
_CLASSES = 300
"""Classes of which a report has figures each."""


class Measured(Protocol):
    """An evaluation: of each class, and of the images that were mistaken most confidently."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def images(self) -> int: ...
    @property
    def resolution(self) -> int: ...
    @property
    def pairs(self) -> tuple[tuple[int, int, int], ...]: ...
    @property
    def mistakes(self) -> Sequence[tuple[int, int, int, float]]: ...


@dataclass(frozen=True)
class TrainingViews:
    """The training views of one phase: for each image a strip, stored above its views, and its class."""

    phase: str
    strips: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Extra:
    """What a report shows beside the run's own files, and why of what is `missing`, by section.

    `split` are the images, named `title`, that `evaluation` measured; `resolutions` are charts over them.
    """

    ledger: Ledger | None = None
    evaluation: Measured | None = None
    split: Split | None = None
    title: str = "validation"
    views: tuple[TrainingViews, ...] = ()
    resolutions: tuple[Chart, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bar:
    """A limit of the budget and what is used of it."""

    title: str
    used: int
    most: int

    @property
    def share(self) -> float:
        """The part that is used."""
        return self.used / self.most if self.most else math.inf


def page(run: Run, extra: Extra) -> str:
    """The report of a run, a whole file of HTML. Raises `NoTemplates` without jinja2."""
    record = run.record
    evaluation = extra.evaluation
    classes = class_rows(evaluation.pairs, evaluation.classes) if evaluation else []
    few = len(classes) <= FEW
    return rendered(
        "report.html",
        _TEMPLATES,
        run=run,
        name=run.folder.name if run.folder is not None else "run",
        record=record,
        extra=extra,
        headlines=headlines(run),
        bars=bars(record.get("budget"), extra.ledger),
        rows=_rows(extra.ledger),
        sketches=[Sketch(chart) for chart in curves({"": [run]})],
        classes=sorted(classes, key=lambda one: one.figures.recall)[:_CLASSES]
        if len(classes) > _CLASSES
        else classes,
        all_classes=len(classes),
        matrix=cells(evaluation.pairs, evaluation.classes) if evaluation and few else [],
        heat=_heat(evaluation) if evaluation and not few else "",
        confusions=_confusions(evaluation) if evaluation else [],
        wrong=_wrong(extra),
        resolutions=[Sketch(chart) for chart in extra.resolutions],
        times=spent(record.get("time")),
        facts=facts(run),
        notes=list(dict.fromkeys([*map(str, record.get("notes", [])), *extra.notes])),
        **_FORMS,
    )


def several(
    title: str,
    charts: Sequence[Chart],
    tables: Mapping[str, Sequence[Sequence[str]]],
    notes: Sequence[str],
) -> str:
    """The report of several runs beside one another: charts, and tables whose first row is their head."""
    sketches = [Sketch(chart) for chart in charts]
    values = {"sketches": sketches, "tables": tables, "notes": notes}
    return rendered("runs.html", _TEMPLATES, name=title, **values, **_FORMS)


_FORMS = {
    "percent": percent,
    "duration": duration,
    "counted": counted,
    "size": size,
    "version": VERSION,
    "finite": lambda value: isinstance(value, int | float) and math.isfinite(value),
}


def bars(described: Any, costs: Ledger | None) -> list[Bar]:
    """The limits of a budget that a record describes, and what a model uses of them."""
    if not isinstance(described, Mapping) or costs is None:
        return []
    try:
        budget = Budget.read(described)
    except ValueError:
        return []
    titles = {
        "params": "parameters",
        "macs": f"MACs at {budget.resolution} px",
        "bytes": f"bytes as {budget.stored or 'saved'}",
        "ram": f"bytes of RAM at {budget.resolution} px",
    }
    # What was counted at another size, or as another file, is not what the budget limits.
    alike = {
        "macs": costs.resolution in (None, (budget.resolution, budget.resolution)),
        "bytes": costs.stored == budget.stored,
    }
    alike["ram"] = all(alike.values())
    used = {limit: costs.cost(limit) for limit in budget.limits if limit in titles and alike.get(limit, True)}
    return [
        Bar(titles[limit], cost, budget.limits[limit]) for limit, cost in used.items() if cost is not None
    ]


def chart(title: str, points: Sequence[tuple[float, float]], trained: Sequence[int], best: int) -> Chart:
    """A chart over resolutions in pixels, with those that a model was trained at and its best."""
    edges = tuple(float(size) for size in trained)
    return Chart(
        title, (Line(title, points),), "resolution (pixels)", edges, "trained at", float(best), "best"
    )


def phase_views(split: Split, recipe: Recipe, classes: Sequence[str]) -> tuple[TrainingViews, ...]:
    """The training views of each of the first phases of a recipe, over images of different classes."""
    found = []
    for number, phase in enumerate(recipe.phases[:4], start=1):
        drawn = strips(split, phase, classes=len(classes))
        named = tuple((picture, classes[label] if label >= 0 else "no label") for picture, label in drawn)
        found.append(TrainingViews(phase.name or f"phase {number}", named))
    return tuple(found)


def _rows(costs: Ledger | None) -> list[dict[str, Any]]:
    groups = [row for row in costs.groups(1) if row.params or row.macs] if costs is not None else []
    if costs is not None and len(groups) < 3:
        groups = [row for row in costs.groups(2) if row.params or row.macs]
    return [
        {
            "name": row.name or "(itself)",
            "kind": row.kind,
            "params": row.params,
            "shape": "×".join(map(str, row.shape[1:])) if row.shape else "",
            "macs": row.macs,
        }
        for row in groups[:_ROWS]
    ]


def _heat(evaluation: Measured) -> str:
    """A confusion matrix of many classes as a picture: the darker, the more of a row's images."""
    count = len(evaluation.classes)
    counts = torch.zeros(count, count)
    for truth, called, times in evaluation.pairs:
        counts[truth, called] = times
    shares = (counts / counts.sum(dim=1, keepdim=True).clamp(min=1)).sqrt()
    light, dark = torch.tensor([240.0, 244.0, 249.0]), torch.tensor([8.0, 60.0, 130.0])
    image = light + shares[..., None] * (dark - light)
    return uri(image.permute(2, 0, 1).round().to(torch.uint8), 640)


def _confusions(evaluation: Measured) -> list[tuple[str, str, int]]:
    """The most frequent mistakes: true class, called class, images."""
    wrong = [(times, truth, called) for truth, called, times in evaluation.pairs if truth != called]
    first = sorted(wrong, key=lambda one: (-one[0], one[1], one[2]))[:10]
    return [(evaluation.classes[truth], evaluation.classes[called], times) for times, truth, called in first]


def _wrong(extra: Extra) -> list[dict[str, Any]]:
    """The pictures and names of the images that were mistaken most confidently."""
    split, evaluation = extra.split, extra.evaluation
    if split is None or evaluation is None or not evaluation.mistakes:
        return []
    images, _ = split[torch.tensor([mistake[0] for mistake in evaluation.mistakes])]
    names = [
        split.names[at] if split.names is not None else f"image {int(split.indices[at])}"
        for at, *_ in evaluation.mistakes
    ]
    return [
        {
            "picture": uri(image, _THUMB),
            "name": name,
            "truth": evaluation.classes[truth],
            "called": evaluation.classes[called],
            "confidence": confidence,
        }
        for image, name, (_, truth, called, confidence) in zip(images, names, evaluation.mistakes)
    ]
