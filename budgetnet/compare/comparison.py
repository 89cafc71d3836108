"""Comparison: groups of runs, what differs between them, their figures, and what forbids comparing them."""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from budgetnet.compare.difference import MISSING, Difference, differences
from budgetnet.compare.figure import measured
from budgetnet.compare.group import Group, called, fold_of, grouped, read_runs, shared
from budgetnet.compare.written import FORMATS, ends, rows, shown, written
from budgetnet.run import Run
from budgetnet.text import aligned, duration, frame, inline
from budgetnet.values import one_of

TITLES = {
    "val_accuracy": "validation",
    "test_accuracy": "test",
    "train_accuracy": "train",
    "train_eval_accuracy": "train, evaluated",
}
"""The accuracies that are compared, with their titles; those of training are of the weights' own epoch."""

_SPLITS = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class Contrast:
    """How far group `name` lies above group `base` in the figure `what`, and the standard error of that.

    Both are parts of 1. The error is that of two independent means: the root of sd²/n of both added up.
    """

    what: str
    name: str
    base: str
    difference: float
    error: float

    def __str__(self) -> str:
        return (
            f"{self.name} - {self.base}: {TITLES[self.what]} {100 * self.difference:+.2f} points, "
            f"standard error {100 * self.error:.2f}"
        )


@dataclass(frozen=True)
class Comparison:
    """Runs in groups of equal ones, what differs between the groups, and what to know about their figures.

    `str()` of it is the tables that `budgetnet compare` prints.
    """

    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]
    contrasts: tuple[Contrast, ...]
    notes: tuple[str, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, group by group."""
        return tuple(run for group in self.groups for run in group.runs)

    def __str__(self) -> str:
        return self.text()

    def text(self, *, intervals: bool = False, form: str = "table") -> str:
        """The tables, with 95 % `intervals` or not; or the figures alone as "latex", "markdown" or "csv"."""
        one_of("a comparison's form", form, FORMATS)
        if form != "table":
            return written(self.groups, form, intervals=intervals)
        parts = []
        names = [group.name for group in self.groups]
        if self.differences:
            rows = [["what differs", *names], *([d.path, *d.texts] for d in self.differences)]
            parts.append(aligned(rows, left=len(names) + 1))
        elif len(self.runs) > 1:
            parts.append("nothing but the seed differs")
        parts.append(self._figures(intervals=intervals))
        if self.contrasts:
            parts.append("\n".join(str(contrast) for contrast in self.contrasts))
        if self.notes:
            parts.append("\n".join(f"note: {inline(note)}" for note in self.notes))
        return "\n\n".join(parts)

    def json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "groups": [_described(group) for group in self.groups],
            "differences": [difference.json() for difference in self.differences],
            "contrasts": [vars(contrast) for contrast in self.contrasts],
            "notes": list(self.notes),
        }

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each group. Raises ValueError where there is no pandas."""
        return frame(rows(self.groups))

    def _figures(self, *, intervals: bool) -> str:
        figures = list(shown(self.groups))
        several = any(len(group.finished) > 1 for group in self.groups)
        titles = ["group", "runs", "n"]
        for what in figures:
            titles += [
                TITLES.get(what, what),
                *(["95 %"] if intervals else []),
                *(["min..max"] if several else []),
            ]
        cells = [[*titles, "images/s", "time"]]
        for group in self.groups:
            row = [group.name, group.label, str(len(group.finished))]
            for what in figures:
                figure, percents = group.figure(what), what in TITLES
                fewer = f" (n = {figure.n})" if 0 < figure.n < len(group.finished) else ""
                row.append((figure.percent() if percents else figure.plain()) + fewer)
                row += [ends(group, what)] if intervals else []
                row += [figure.range() if percents else figure.plain_range()] if several else []
            rate = group.figure("images_per_second")
            shown_rate = f"{rate.mean:,.0f}" if rate.n else "-"
            cells.append([*row, shown_rate, duration(group.figure("seconds").mean)])
        return aligned(cells, left=2)


def compare(runs: Run | str | Path | Sequence[Run | str | Path]) -> Comparison:
    """Put runs, or the folders that they lie in, beside one another; no recipe is executed.

    Runs that are equal but for their seed form one group, whose figures get a mean and a standard deviation
    (n - 1) over its finished runs. Raises ValueError for a folder that holds no run that can be read.

    ::

        print(compare(["runs/wide-1", "runs/wide-2", "runs/narrow-1", "runs/narrow-2"]))
    """
    groups = grouped(read_runs(runs))
    parts = differences([_shown(group) for group in groups])
    # Whether a run was shown test images at all is no difference between trainings.
    hidden = [part for part in parts if part.path.endswith(".test") and MISSING in part.values]
    return Comparison(
        tuple(groups),
        tuple(part for part in parts if part not in hidden),
        tuple(_contrasts(groups)),
        tuple(dict.fromkeys(_notes(groups))),
    )


def _shown(group: Group) -> dict[str, Any]:
    """What of a group is compared with others: what its runs share, and some that may vary within it."""
    same = shared(group.runs[0])
    if group.fingerprint("test") is not None:
        same["data"]["fingerprints"]["test"] = group.fingerprint("test")
    for key in ("scale", "threads"):
        texts = list(dict.fromkeys(str(run.record.get(key)) for run in group.runs))
        same[key] = ", ".join(texts)
    return same


def _contrasts(groups: Sequence[Group]) -> Iterator[Contrast]:
    """Validation and test of each group with a spread against those of the first one with a spread."""
    for what in ("val_accuracy", "test_accuracy"):
        split = what.split("_")[0]
        spread = [group for group in groups if group.figure(what).n > 1]
        for group in spread[1:]:
            base = spread[0]
            if group.measured_by(split) != base.measured_by(split):
                continue
            ours, theirs = group.figure(what), base.figure(what)
            error = math.sqrt(ours.sd**2 / ours.n + theirs.sd**2 / theirs.n)
            yield Contrast(what, group.name, base.name, ours.mean - theirs.mean, error)


def _notes(groups: Sequence[Group]) -> Iterator[str]:
    """What makes the figures other than they seem, and what is missing among them."""
    for group in groups:
        if group.external:
            yield f"{group.name}: external weights ({group.external}), not trained from scratch"
    for split, title in _SPLITS.items():
        yield from _different_images(groups, split, title)
    for group in groups:
        for run in group.runs:
            if run.early:
                yield f"{called(run)}: {run.status} after {run.progress}"
            elif run.status != "finished":
                yield _unfinished(run)
        seeds = Counter((run.record.get("seed"), fold_of(run)) for run in group.finished)
        for (seed, fold), times in seeds.items():
            if times > 1:
                of = f" of fold {fold}" if fold is not None else ""
                yield f"{group.name}: seed {seed}{of} counts {times} times; such runs are not independent"
    for group in groups:
        if len(group.runs) > 1 and "described" not in group.record:
            yield (
                f"{group.name}: these runs were begun before records told code and attributes: whether they "
                "are equal in those cannot be told"
            )
    for group in groups:
        for run in group.runs:
            notes = run.record.get("notes")
            yield from (f"{group.name}: {note}" for note in (notes if isinstance(notes, list) else []))
    if len(groups) > 1 and any(len(group.finished) == 1 for group in groups):
        yield "one run is one draw: train each side with several seeds (budgetnet run RECIPE --seeds 3)"


def _different_images(groups: Sequence[Group], split: str, title: str) -> Iterator[str]:
    sets: dict[Hashable, list[str]] = {}
    for group in groups:
        for images in group.measured_by(split):
            sets.setdefault(images, []).append(group.name)
    if len(sets) > 1:
        names = " | ".join(", ".join(names) for names in sets.values())
        yield f"the {title} images are not the same ({names}): their {title} figures are not comparable"


def _unfinished(run: Run) -> str:
    words = {"running": "unfinished", "stopped": "stopped by the user"}.get(run.status, run.status)
    why = f" ({' '.join(str(run.record['error']).split())})" if run.record.get("error") else ""
    ended = f" after {run.progress}" if run.history else ""
    return f"{called(run)}: {words}{ended}, and not counted{why}"


def _described(group: Group) -> dict[str, Any]:
    figures = (*TITLES, "val_loss", "test_loss", "seconds", "images_per_second")
    values = {what: group.figure(what) for what in figures}
    return {
        "name": group.name,
        "external": group.external,
        "runs": [
            {
                "folder": None if run.folder is None else str(run.folder),
                "seed": run.record.get("seed"),
                "status": run.status,
                **{what: _none(measured(run, what)) for what in figures},
            }
            for run in group.runs
        ],
        "figures": {what: figure.json() for what, figure in values.items() if figure.n},
    }


def _none(number: float) -> float | None:
    return number if math.isfinite(number) else None
