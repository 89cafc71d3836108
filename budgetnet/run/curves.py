"""Curves: what trainings measured over their epochs, as charts: of one, or of groups with their spread."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any, Protocol

from budgetnet.pictures import Chart, Line
from budgetnet.run.epoch import Epoch

_COLUMNS = {"train": "train", "train_eval": "train, evaluated", "val": "validation", "test": "test"}
_KINDS = {"accuracy": ("accuracy (%)", 100.0), "loss": ("loss", 1.0)}

Points = list[tuple[float, float]]


class Trained(Protocol):
    """What is drawn of a run: its epochs, and its final figures."""

    history: list[Epoch]

    @property
    def result(self) -> Mapping[str, Any]:
        """The kept weights' figures, with the number of their epoch."""


def curves(groups: Mapping[str, Sequence[Trained]]) -> list[Chart]:
    """Charts of the runs of each group: accuracy and loss, learning rate and resolution; none without epochs.

    One group's training, validation and test are lines of one chart; several groups have a chart for each,
    with a line a group. Of a group of several runs it is their mean, in a band of their standard deviation.
    """
    runs = [run for group in groups.values() for run in group]
    shown = [name for name in _COLUMNS if any(points(run, f"{name}_loss") for run in runs)]
    if not any(run.history for run in runs):
        return []
    edges = tuple(sorted({edge for run in runs for edge in borders(run.history)}))
    number = runs[0].result.get("epoch") if len(runs) == 1 else None
    kept = float(number) if isinstance(number, int) else None

    def chart(title: str, lines: list[Line], kept: float | None = kept) -> Chart:
        return Chart(title, tuple(line for line in lines if line.points), "epoch", edges, kept=kept)

    charts = []
    if len(groups) == 1:
        for kind, (title, scale) in _KINDS.items():
            lines = [
                _line(_COLUMNS[name], runs, f"{name}_{kind}", scale, at) for at, name in enumerate(shown)
            ]
            charts.append(chart(title, lines))
    else:
        for name in shown:
            for kind, (title, scale) in _KINDS.items():
                lines = [
                    _line(label, group, f"{name}_{kind}", scale, at)
                    for at, (label, group) in enumerate(groups.items())
                ]
                charts.append(chart(f"{_COLUMNS[name]} {title}", lines))
    for name, title in (("lr", "learning rate"), ("resolution", "resolution (pixels)")):
        # A lone line is what its chart is called.
        labels = [""] if len(groups) == 1 else list(groups)
        lines = [
            _line(label, group, name, 1.0, at)
            for at, (label, group) in enumerate(zip(labels, groups.values()))
        ]
        charts.append(chart(title, lines, None))
    return [each for each in charts if each.lines]


def points(run: Trained, name: str, scale: float = 1.0) -> Points:
    """(epoch, value) of what a run measured under `name`, such as "val_loss", where it is a number."""
    figures = [(float(epoch.number), scale * epoch.measure(name)) for epoch in run.history]
    return [(number, value) for number, value in figures if math.isfinite(value)]


def borders(history: Sequence[Epoch]) -> list[float]:
    """Between which epochs a phase ends and another begins: 2.5 is between the second and the third."""
    pairs = pairwise(history)
    return [
        one.number + 0.5 for one, other in pairs if (one.session, one.phase) != (other.session, other.phase)
    ]


def _line(label: str, runs: Sequence[Trained], name: str, scale: float, colour: int) -> Line:
    """What runs measured under a name: the one run's points, or the mean of several and their deviation."""
    if len(runs) == 1:
        return Line(label, points(runs[0], name, scale), colour)
    values: dict[float, list[float]] = {}
    for run in runs:
        for number, value in points(run, name, scale):
            values.setdefault(number, []).append(value)
    means = [(number, fmean(values[number])) for number in sorted(values)]
    spread = {number: stdev(each) if len(each) > 1 else 0.0 for number, each in values.items()}
    # No accuracy is beyond 100 %, whatever a deviation says.
    low, high = (0.0, scale) if name.endswith("accuracy") else (-math.inf, math.inf)
    band = [(at, max(low, mean - spread[at]), min(high, mean + spread[at])) for at, mean in means]
    return Line(label, means, colour, band)
