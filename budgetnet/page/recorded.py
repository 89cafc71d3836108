"""What the record of a run alone says for its report: its accuracies, its time, and what it was of."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from budgetnet.metrics import wilson
from budgetnet.run import Run

_WAYS = {"val": "validation", "val_plain": "validation, plainly", "test": "test"}
_PARTS = {
    "data": "data (fetching images, making views)",
    "step": "steps (teachers, forward, loss, backward, optimizer)",
    "evaluation": "evaluation",
    "rest": "rest (checkpoints, beginning, end)",
}


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


def spent(record: Any) -> list[tuple[str, str, float, float]]:
    """(name, words, seconds, share) of what a run's time went into."""
    entries = _mapping(record)
    seconds = {name: entries.get(f"{name}_seconds") for name in _PARTS}
    known = {name: float(each) for name, each in seconds.items() if isinstance(each, int | float)}
    whole = sum(known.values())
    return [(name, _PARTS[name], each, each / whole) for name, each in known.items() if whole]


def facts(run: Run) -> list[tuple[str, str]]:
    """What a run was of, and where it ran: (what, answer)."""
    record = run.record
    data, versions = _mapping(record.get("data")), _mapping(record.get("versions"))
    images = ", ".join(
        f"{count:,} {name}" for name, count in _mapping(data.get("images")).items() if _whole(count)
    )
    model, speed, commit = (_mapping(record.get(name)) for name in ("model", "speed", "commit"))
    recipe = _mapping(record.get("recipe"))
    answers = {
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
    return [(name, str(value)) for name, value in answers.items() if value not in (None, "")]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
