"""Figures: the one door to matplotlib: charts and confusion matrices, encoded as PNG or SVG."""

import io
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from budgetnet.pictures.chart import COLOURS, Chart
from budgetnet.text import inline

_DASHES = ("-", "--", "-.", ":")
_NAMED = 40
"""Classes whose names stand beside a confusion matrix, and whose counts stand in it up to half as many."""


class NoPlot(ValueError):
    """Nothing can be drawn: there is nothing to draw, or matplotlib is not installed."""


def blank(width: float, height: float) -> Any:
    """An empty figure of so many inches. Raises `NoPlot` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NoPlot(
            "a plot as PNG needs matplotlib, which is not installed: pip install 'budgetnet[report]'"
        ) from None
    figure: Any = Figure(figsize=(width, height), layout="constrained")
    # A notebook shows what has this, also where nobody has asked for matplotlib's inline pictures.
    figure._repr_png_ = partial(encoded, figure, "png")
    return figure


def encoded(figure: Any, kind: str) -> bytes:
    """A figure as the bytes of a "png" or "svg" file, the same from the same figures."""
    from matplotlib import rc_context

    drawn = io.BytesIO()
    if kind == "svg":
        # Text as text and nothing drawn by lot: a small file, and the same one from the same figures.
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": "budgetnet"}):
            figure.savefig(drawn, format="svg", metadata={"Date": None})
    else:
        figure.savefig(drawn, dpi=120, format="png")
    return drawn.getvalue()


def charts_figure(charts: Sequence[Chart], *, columns: int = 2) -> Any:
    """The charts beside and below one another, with one legend below them all. Raises `NoPlot`."""
    if not charts:
        raise NoPlot("there are no curves to draw: none of these runs has finished an epoch")
    labels = {line.label: None for chart in charts for line in chart.lines if line.label}
    columns = min(columns, len(charts))
    wide = max(1, int(5.2 * columns * 10 / (6 + max(map(len, labels), default=1))))
    rows, lines = math.ceil(len(charts) / columns), math.ceil((len(labels) + 2) / wide)
    figure = blank(5.2 * columns, 3.4 * rows + 0.22 * lines)
    every = figure.subplots(rows, columns, squeeze=False).flatten()
    handles: dict[str, Any] = {}
    for axes, chart in zip(every, charts):
        _draw(axes, chart)
        handles |= dict(reversed(pair) for pair in zip(*axes.get_legend_handles_labels()))
    for axes in every[len(charts) :]:
        axes.set_axis_off()
    if handles:
        ordered = [name for name in handles if name in labels] + [
            name for name in handles if name not in labels
        ]
        figure.legend(
            [handles[name] for name in ordered],
            ordered,
            loc="outside lower center",
            ncols=min(wide, len(ordered)),
            frameon=False,
        )
    return figure


def _draw(axes: Any, chart: Chart) -> None:
    """One chart into matplotlib's axes."""
    for line in chart.lines:
        style = {"color": f"C{line.colour % COLOURS}", "linestyle": _DASHES[line.colour // COLOURS % 4]}
        marker = "." if len(line.points) < 3 else ""
        xs, ys = zip(*line.points, strict=True) if line.points else ((), ())
        axes.plot(xs, ys, label=_plain(line.label) or "_nolegend_", linewidth=1.5, marker=marker, **style)
        if line.band:
            at, low, high = zip(*line.band, strict=True)
            axes.fill_between(at, low, high, color=style["color"], alpha=0.18, linewidth=0)
    for number, border in enumerate(chart.borders):
        label = chart.border if number == 0 else "_nolegend_"
        axes.axvline(border, color="0.6", linewidth=0.9, linestyle=":", zorder=0, label=label)
    for number, (x, y, colour) in enumerate(chart.marked):
        label = chart.mark if number == 0 else "_nolegend_"
        axes.plot(
            x, y, "*", color=f"C{colour % COLOURS}", markersize=11, markeredgecolor="white", label=label
        )
    axes.set_title(_plain(chart.title), fontsize=11)
    axes.set_xlabel(chart.across)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _plain(name: str) -> str:
    """A name that came from elsewhere, in which nothing is a formula, cut where it is long."""
    text = inline(name) if len(name) <= _NAMED else f"{inline(name[: _NAMED - 3])}..."
    text = text.replace("$", r"\$")
    # matplotlib leaves labels with an underscore before them out of the legend.
    return f" {text}" if text.startswith("_") else text


def confusion_figure(pairs: Sequence[tuple[int, int, int]], classes: Sequence[str]) -> Any:
    """A confusion matrix of (true, called, images): each row in shares of its class's images.

    Raises `NoPlot`.
    """
    import numpy as np

    count = len(classes)
    images = np.zeros((count, count))
    for truth, called, times in pairs:
        images[truth, called] = times
    shares = images / np.maximum(images.sum(axis=1, keepdims=True), 1)
    side = min(14.0, max(4.5, 0.42 * count + 2.5))
    figure = blank(side + 0.8, side)
    axes = figure.subplots()
    shown = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    figure.colorbar(shown, ax=axes, label="% of the true class", shrink=0.8)
    axes.set_xlabel("called")
    axes.set_ylabel("true class")
    if count <= _NAMED:
        names = [_plain(name) for name in classes]
        axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), names)
    for truth, called, times in pairs if count <= _NAMED / 2 else ():
        light = shares[truth, called] > 0.5
        colour = "white" if light else "black"
        axes.text(called, truth, f"{times:,}", ha="center", va="center", fontsize=8, color=colour)
    return figure
