"""A recipe's schedules over its epochs, as terminal text and as a PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from budgetnet.page import write_figure
from budgetnet.pictures import blank
from budgetnet.recipe import Phase, Recipe
from budgetnet.schedule import value
from budgetnet.text import counted

What = Literal["lr", "resolution"]

# A braille character is two dots wide and four high; its code point adds up those of its dots.
_BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@dataclass(frozen=True)
class Stretch:
    """One phase of a curve: its title, how many epochs it has, and (epoch, value) points in rising order.

    Epochs are counted over the whole run, from 0.
    """

    title: str
    epochs: int
    points: tuple[tuple[float, float], ...]

    @property
    def label(self) -> str:
        """The title and the length: "learn, 20 epochs"."""
        return f"{self.title}, {counted(self.epochs, 'epoch')}"


def curve(recipe: Recipe, what: What) -> list[Stretch]:
    """The learning rate, or the resolution in pixels, over the whole recipe, phase by phase.

    A schedule that answers to the history, such as a Plateau, is shown as if nothing had happened yet.
    """
    stretches: list[Stretch] = []
    begun = 0
    for number, phase in enumerate(recipe.phases, start=1):
        count = min(max(20 * phase.epochs, 200), 4000)
        times = [*(k / count for k in range(count)), 1 - 1e-6]
        points = tuple((begun + t * phase.epochs, _value(phase, what, t)) for t in times)
        stretches.append(Stretch(phase.name or f"phase {number}", phase.epochs, points))
        begun += phase.epochs
    return stretches


def _value(phase: Phase, what: What, t: float) -> float:
    return value(phase.lr, t, epochs=phase.epochs) if what == "lr" else float(phase.resolution_at(t))


def plot(curve: Sequence[Stretch], *, width: int = 72, height: int = 8, ascii_only: bool = False) -> str:
    """A curve as text of at most `width` columns: `height` rows from 0 to its highest value, then the phases.

    Drawn in braille dots, or in asterisks where a terminal knows nothing but ASCII.
    """
    high = max(y for stretch in curve for _, y in stretch.points) or 1.0
    labels = {0: f"{high:.3g}", height - 1: "0"}
    # At least as wide as most labels, so that plots below one another share their epochs.
    margin = max(7, *(len(label) + 1 for label in labels.values()))
    columns = max(width - margin - 1, 8)
    across, down = (1, 1) if ascii_only else (2, 4)
    dots = _dots(curve, columns * across, height * down, high)
    bar, corner, line = ("|", "+", "-") if ascii_only else ("│", "└", "─")
    rows = []
    for row in range(height):
        cells = (_cell(dots, column, row, ascii_only) for column in range(columns))
        rows.append(f"{labels.get(row, ''):>{margin}}{bar}{''.join(cells)}".rstrip())
    rows.append(f"{'':>{margin}}{corner}{line * columns}")
    return "\n".join([*rows, f"{'':>{margin}} {_phases(curve, columns)}".rstrip()])


def _dots(curve: Sequence[Stretch], across: int, down: int, high: float) -> set[tuple[int, int]]:
    """The dots (x, y from the top) of a curve: every value of each column, joined to the column before."""
    whole = sum(stretch.epochs for stretch in curve)
    spans: dict[int, list[float]] = {}
    for stretch in curve:
        for epoch, y in stretch.points:
            spans.setdefault(min(int(epoch / whole * across), across - 1), []).append(y)
    dots: set[tuple[int, int]] = set()
    before: float | None = None
    for x in range(across):
        seen = spans.get(x, [] if before is None else [before])
        joined = seen if before is None else [*seen, before]
        levels = [round((1 - y / high) * (down - 1)) for y in joined]
        dots |= {(x, y) for y in range(min(levels), max(levels) + 1)} if levels else set()
        before = seen[-1] if seen else None
    return dots


def _cell(dots: set[tuple[int, int]], column: int, row: int, ascii_only: bool) -> str:
    """The character of one column and row."""
    if ascii_only:
        return "*" if (column, row) in dots else " "
    code = sum(
        bit
        for dy, bits in enumerate(_BRAILLE)
        for dx, bit in enumerate(bits)
        if (2 * column + dx, 4 * row + dy) in dots
    )
    return chr(0x2800 + code) if code else " "


def _phases(curve: Sequence[Stretch], columns: int) -> str:
    """The phases' titles below the axis, each where its phase begins, as far as there is room."""
    whole = sum(stretch.epochs for stretch in curve)
    text, begun = "", 0
    for stretch in curve:
        start, begun = round(begun / whole * columns), begun + stretch.epochs
        room = max(round(begun / whole * columns) - start - 1, 0)
        text = text.ljust(start) + (stretch.label if len(stretch.label) <= room else stretch.title[:room])
    return text


def save_schedules(recipe: Recipe, path: str | Path) -> None:
    """Draw learning rate and resolution over the epochs into a PNG file.

    Raises ValueError where the file cannot be written, and `NoPlot` without matplotlib.
    """
    figure = blank(9, 5)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _draw(top, curve(recipe, "lr"), "learning rate")
    _draw(bottom, curve(recipe, "resolution"), "resolution (pixels)")
    top.legend(frameon=False)
    bottom.set_xlabel("epoch")
    write_figure(figure, path)


def _draw(axes: Any, stretches: Sequence[Stretch], title: str) -> None:
    """One curve into matplotlib's axes, each phase in its own colour."""
    for stretch in stretches:
        epochs, values = zip(*stretch.points, strict=True)
        axes.plot(epochs, values, label=stretch.label)
        axes.axvline(epochs[0], color="0.85", linewidth=0.8, zorder=0)
    axes.set_ylim(0, 1.08 * max(y for stretch in stretches for _, y in stretch.points))
    axes.set_ylabel(title)
