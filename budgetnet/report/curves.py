"""Curves: the histories of runs, drawn into one PNG."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from budgetnet.compare import Group, grouped, read_runs
from budgetnet.report.png import NoPlot, blank, unwritable, write
from budgetnet.run import Epoch, Run

_ROWS = {"accuracy": "accuracy (%)", "loss": "loss"}
_COLUMNS = {"train": "train", "train_eval": "train, evaluated", "val": "validation", "test": "test"}


Points = list[tuple[int, float]]


def save_curves(runs: Run | str | Path | Sequence[Run | str | Path], path: str | Path) -> None:
    """Draw accuracy and loss over the epochs of runs, or of those in the folders named, into a PNG file.

    Training, validation, and test where it was measured, one beside the other. Runs that differ in nothing
    but their seed share a colour; dotted lines are the borders of phases. Runs of one group are drawn into
    one pair of axes. The file's folder is made where it is missing. Raises ValueError for a broken run, where
    the file cannot be written, and (`NoPlot`) without matplotlib or any finished epoch.

    ::

        save_curves(["runs/wide-1", "runs/narrow-1"], "curves.png")
    """
    groups = grouped(read_runs(runs))
    columns = [
        what for what in _COLUMNS if any(points(run, f"{what}_loss") for g in groups for run in g.runs)
    ]
    if not columns:
        raise NoPlot("there are no curves to draw: none of these runs has finished an epoch")
    if len(groups) == 1:
        panels = {groups[0].label: [(groups[0], what, _COLUMNS[what]) for what in columns]}
    else:
        named = [(group, f"{group.name}: {group.label}") for group in groups]
        panels = {_COLUMNS[what]: [(group, what, label) for group, label in named] for what in columns}
    figure = blank(max(8.0, 4.5 * len(panels)), 7)
    axes = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False)
    for row, kind in zip(axes, _ROWS, strict=True):
        for panel, (title, lines) in zip(row, panels.items(), strict=True):
            for at, (group, what, label) in enumerate(lines):
                _lines(panel, group, f"{what}_{kind}", color=f"C{at % 10}", label=label)
            _borders(panel, groups)
            panel.set_title(title if kind == "accuracy" else "")
        row[0].set_ylabel(_ROWS[kind])
    for lowest in axes[-1]:
        lowest.set_xlabel("epoch")
        lowest.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(4, max(1, len(labels))), frameon=False
    )
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None
    write(figure, path)


def points(run: Run, name: str) -> Points:
    """(epoch, value) of what a run measured under `name`, such as "val_loss", where it is a number."""
    figures = [(epoch.number, epoch.measure(name)) for epoch in run.history]
    return [(number, value) for number, value in figures if math.isfinite(value)]


def borders(history: Sequence[Epoch]) -> list[float]:
    """Between which epochs a phase ends and another begins: 2.5 is between the second and the third."""
    pairs = pairwise(history)
    return [
        one.number + 0.5 for one, other in pairs if (one.session, one.phase) != (other.session, other.phase)
    ]


def _lines(axes: Any, group: Group, name: str, *, color: str, label: str) -> None:
    """One line for each run of a group, thin where it has several, and one label for all of them."""
    scale = 100 if name.endswith("accuracy") else 1
    thin = len(group.runs) > 1
    for run in group.runs:
        figures = points(run, name)
        axes.plot(
            [number for number, _ in figures],
            [scale * value for _, value in figures],
            color=color,
            label=label,
            linewidth=0.8 if thin else 1.5,
            alpha=0.8 if thin else 1.0,
            # A line through one point would not be seen.
            marker="." if len(figures) < 3 else "",
        )
        label = "_nolegend_"


def _borders(axes: Any, groups: Sequence[Group]) -> None:
    for at in sorted({at for group in groups for run in group.runs for at in borders(run.history)}):
        axes.axvline(at, color="0.7", linewidth=0.8, linestyle=":", zorder=0)
