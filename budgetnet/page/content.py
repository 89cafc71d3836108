"""Content: what a report says of a run, as plain values for its template."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from budgetnet.budget import Budget, Ledger
from budgetnet.data import Split
from budgetnet.metrics import class_rows, wilson
from budgetnet.page.images import strips, uri
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
_WAYS = {"val": "validation", "val_plain": "validation, plainly", "test": "test"}
_PARTS = {
    "data": "data (fetching images, making views)",
    "step": "steps (forward, loss, backward, optimizer)",
    "evaluation": "evaluation",
    "rest": "rest (checkpoints, beginning, end)",
}


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
class Headline:
    """An accuracy with the ends of its 95 % interval."""

    title: str
    accuracy: float
    low: float
    high: float
    images: int
    resolution: Any
    epoch: Any


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
        times=_times(record.get("time")),
        facts=_facts(run),
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


def headlines(run: Run) -> list[Headline]:
    """The final accuracies of a run; of one that is not finished, its best epoch's so far."""
    found = []
    for way, title in _WAYS.items():
        accuracy, images = run.result.get(f"{way}_accuracy"), run.result.get(f"{way}_images")
        if isinstance(accuracy, int | float) and isinstance(images, int) and math.isfinite(accuracy):
            ends = wilson(accuracy * images, images)
            found.append(
                Headline(
                    title,
                    accuracy,
                    *ends,
                    images,
                    run.result.get(f"{way}_resolution"),
                    run.result.get("epoch"),
                )
            )
    if not found and run.best is not None:
        images = _mapping(_mapping(run.record.get("data")).get("images")).get("val", 0)
        images = images if isinstance(images, int) else 0
        best = run.best
        ends = wilson(best.val_accuracy * images, images)
        found.append(
            Headline("validation, so far", best.val_accuracy, *ends, images, best.resolution, best.number)
        )
    return found


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


def _times(record: Any) -> list[tuple[str, str, float, float]]:
    """(name, words, seconds, share) of what a run's time went into."""
    entries = _mapping(record)
    spent = {name: entries.get(f"{name}_seconds") for name in _PARTS}
    known = {name: float(each) for name, each in spent.items() if isinstance(each, int | float)}
    whole = sum(known.values())
    return [(name, _PARTS[name], each, each / whole) for name, each in known.items() if whole]


def _facts(run: Run) -> list[tuple[str, str]]:
    """What a run was of, and where it ran: (what, answer)."""
    record = run.record
    data, versions = _mapping(record.get("data")), _mapping(record.get("versions"))
    images = ", ".join(
        f"{count:,} {name}" for name, count in _mapping(data.get("images")).items() if _whole(count)
    )
    model, speed, commit = (_mapping(record.get(name)) for name in ("model", "speed", "commit"))
    recipe = _mapping(record.get("recipe"))
    facts = {
        "recipe": record.get("recipe_file"),
        "settings": ", ".join(map(str, record.get("settings") or [])),
        "scale": record.get("scale"),
        "seed": record.get("seed"),
        "data": f"{data.get('name')}: {images}" if data else "",
        "model": f"{model.get('class')}, {model['parameters']:,} parameters"
        if _whole(model.get("parameters"))
        else "",
        "optimizer": _mapping(recipe.get("optimizer")).get("class"),
        "batch size": recipe.get("batch_size"),
        "external weights": record.get("external") or "none: trained from scratch",
        "began after": record.get("after"),
        "device": record.get("device"),
        "threads": record.get("threads"),
        "precision": record.get("precision"),
        "steps": speed.get("chosen"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "commit": " ".join(str(part) for part in commit.values()),
        "started": record.get("started"),
        "ended": record.get("ended"),
        "sessions": len(record.get("sessions", [])) or "",
        "error": record.get("error"),
        "folder": str(run.folder) if run.folder is not None else "in memory",
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
