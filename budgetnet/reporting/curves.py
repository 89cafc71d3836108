"""Curves: the histories of runs, drawn into one PNG or SVG file."""

from collections.abc import Sequence
from pathlib import Path

from budgetnet.compare import grouped, read_runs
from budgetnet.page import make_folder, write_figure
from budgetnet.pictures import charts_figure
from budgetnet.run import Run, curves


def save_curves(runs: Run | str | Path | Sequence[Run | str | Path], path: str | Path) -> None:
    """Draw what runs measured over their epochs, or those in the folders named, into a PNG or SVG file.

    Accuracy and loss in training, in validation, and in test where it was measured; learning rate and
    resolution. Runs that differ in nothing but their seed are one line, their mean, in a band of their
    standard deviation; dotted lines are the borders of phases, and a star is the epoch that a run kept. The
    file's folder is made where it is missing. Raises ValueError for a broken run, where the file cannot be
    written, and (`NoPlot`) without matplotlib or any finished epoch.

    ::

        save_curves(["runs/wide-1", "runs/narrow-1"], "curves.png")
    """
    groups = grouped(read_runs(runs))
    several = len(groups) > 1
    named = {f"{group.name}: {group.label}" if several else group.label: group.runs for group in groups}
    figure = charts_figure(curves(named))
    make_folder(Path(path).parent)
    write_figure(figure, path)
