"""Group: runs that are equal but for their seed, and what of their records that is judged by."""

import json
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from budgetnet.compare.figure import Figure, measured, number
from budgetnet.identity import without_rooms
from budgetnet.metrics import wilson
from budgetnet.run import Run

# What must be equal within a group; the recipe's own seed is left out.
_WHOLE = ("described", "code", "model", "budget", "external", "device", "precision", "versions")


@dataclass(frozen=True)
class Group:
    """Runs that are equal but for their seed, under one letter. Figures are those of its finished runs."""

    name: str
    runs: tuple[Run, ...]

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs that came to their end; those that were ended early are in groups of their own."""
        return tuple(run for run in self.runs if run.over)

    @property
    def seeds(self) -> tuple[Any, ...]:
        """The seeds of the finished runs."""
        return tuple(run.record.get("seed") for run in self.finished)

    @property
    def label(self) -> str:
        """The runs' names, as many as are short to say."""
        names = [called(run) for run in self.runs]
        return ", ".join(names) if len(names) <= 3 else f"{names[0]} .. {names[-1]}"

    @property
    def record(self) -> Mapping[str, Any]:
        """The record of the first run, for what all of them share."""
        return self.runs[0].record

    @property
    def external(self) -> str:
        """What external weights the runs began from, "" for none."""
        return str(self.record.get("external") or "")

    def figure(self, name: str) -> Figure:
        """The final figure `name`, such as "val_accuracy", over the finished runs."""
        return Figure(tuple(measured(run, name) for run in self.finished))

    def interval(self, name: str) -> tuple[float, float]:
        """The 95 % interval of a figure: Student's t over runs, Wilson's for the accuracy of one, or NaN."""
        figure = self.figure(name)
        if figure.n == 1 and name in ("val_accuracy", "test_accuracy"):
            own = (run.result.get(name.replace("accuracy", "images")) for run in self.finished)
            images = next((count for count in map(number, own) if count > 0), 0)
            return wilson(figure.mean * images, int(images))
        return figure.interval

    def measured_by(self, split: str) -> frozenset[Hashable]:
        """The sets of images of a split that its figures are of, one where all is well.

        Folds of one whole, which have each other images by design, are one set.
        """
        runs = [run for run in self.finished if math.isfinite(measured(run, f"{split}_accuracy"))]
        folds = frozenset(whole for run in runs if (whole := _whole(run, split)) is not None)
        alone = {fingerprint(run, split) for run in runs if _whole(run, split) is None}
        return frozenset({*alone, *([folds] if folds else [])})

    def fingerprint(self, split: str) -> str | None:
        """The fingerprint of the images of a split, None where there is none."""
        return next((digest for run in self.runs if (digest := fingerprint(run, split))), None)


def called(run: Run) -> str:
    """How a run is named: by its folder."""
    return run.folder.name if run.folder is not None else "in memory"


def fingerprint(run: Run, split: str) -> str | None:
    """The fingerprint of the images of a run's split, None where there is none."""
    digest = _mapping(_mapping(run.record.get("data")).get("fingerprints")).get(split)
    return digest if isinstance(digest, str) else None


def fold_of(run: Run) -> int | None:
    """The number of a run's fold, from 1; None where it has none."""
    at = _mapping(run.record.get("fold")).get("at")
    return at + 1 if isinstance(at, int) else None


def _whole(run: Run, split: str) -> tuple[str, int | None] | None:
    """What a run's fold is of, and its number; None where a split is no fold's."""
    whole = _mapping(run.record.get("fold")).get("whole")
    return (whole, fold_of(run)) if split == "val" and isinstance(whole, str) else None


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Groups of runs that differ in nothing but seed or fold, in the order of their first run."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(shared(run), sort_keys=True, default=str), []).append(run)
    return [Group(_letter(at), tuple(members)) for at, members in enumerate(groups.values())]


def shared(run: Run) -> dict[str, Any]:
    """What a run has in common with those of its group: its record without its seed and what it measured.

    The test images are left out: nothing is trained or chosen by them, and not every run is shown them.
    """
    record = run.record
    recipe = record.get("recipe")
    if isinstance(recipe, dict):
        recipe = {key: value for key, value in recipe.items() if key != "seed"}
    data = _mapping(record.get("data"))
    fold = _mapping(record.get("fold"))
    settings = record.get("settings")
    kept = [text for text in settings if str(text).startswith(("data.", "model."))] if settings else []
    common = {
        "recipe_file": Path(str(record.get("recipe_file") or "")).name,
        "recipe": recipe,
        # Those of the recipe show in the recipe itself.
        "settings": kept,
        "data": {
            "name": data.get("name"),
            "classes": data.get("classes"),
            # What one fold trains on another one measures by.
            "images": fold.get("of") or _untested(data.get("images")),
            "fingerprints": fold.get("whole") or _untested(data.get("fingerprints")),
        },
        **{key: record.get(key) for key in _WHOLE},
        # Each seed of a chain goes on from a run of its own, and these are numbered.
        **({"ending": run.status} if run.early else {}),
        "after": re.sub(r"-\d+$", "", Path(str(record.get("after") or "")).name),
    }
    return cast(dict[str, Any], without_rooms(common))


def read_runs(runs: Run | str | Path | Sequence[Run | str | Path]) -> list[Run]:
    """Runs as they are, and those in the folders named, each once. Raises ValueError for a broken folder."""
    given = [runs] if isinstance(runs, Run | str | Path) else list(runs)
    if not given:
        raise ValueError("there is nothing to compare: name at least one run's folder, such as runs/run-1")
    by_file: dict[object, Run] = {}
    for item in given:
        if isinstance(item, Run):
            by_file.setdefault(item.folder.resolve() if item.folder else id(item), item)
        elif Path(item).resolve() not in by_file:
            by_file[Path(item).resolve()] = _read(Path(item))
    return list(by_file.values())


def _read(folder: Path) -> Run:
    try:
        run = Run.read(folder)
    except OSError as error:
        raise ValueError(f"the run in {folder} cannot be read: {error.strerror or error}") from None
    return run


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _untested(recipe: Any) -> dict[str, Any]:
    return {split: value for split, value in _mapping(recipe).items() if split != "test"}


def _letter(at: int) -> str:
    letters = ""
    while at >= 0:
        letters = chr(ord("A") + at % 26) + letters
        at = at // 26 - 1
    return letters
