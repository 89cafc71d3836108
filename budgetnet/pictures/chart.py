"""Chart: lines over one axis as plain values, and where they lie in a drawing of a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

Points = Sequence[tuple[float, float]]
T = TypeVar("T")

COLOURS = 10
"""Lines of a chart have colours of their own up to so many; then the colours come again, dashed otherwise."""
_MOST = 600
"""Points of a line that a page draws at most: more are not told apart on it."""
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460, 250, 54, 12, 12, 40


@dataclass(frozen=True)
class Line:
    """Points (x, y), x rising, in the colour of a number; `band` has (x, low, high) round them."""

    label: str
    points: Points
    colour: int = 0
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Chart:
    """Lines below a title: dotted down at the `borders`, marked at `kept`, whose label is `mark`."""

    title: str
    lines: tuple[Line, ...]
    across: str = "epoch"
    borders: tuple[float, ...] = ()
    border: str = "phase border"
    kept: float | None = None
    mark: str = "kept"

    @property
    def marked(self) -> list[tuple[float, float, int]]:
        """The points (x, y, colour) of the lines at what is kept."""
        at = [(line, x, y) for line in self.lines for x, y in line.points if x == self.kept]
        return [(x, y, line.colour) for line, x, y in at]


@dataclass(frozen=True)
class Stroke:
    """A line of a drawing: its label, colour and dashes by number, its path, its band's, and lone dots."""

    label: str
    colour: int
    dash: int
    path: str
    band: str
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Sketch:
    """A chart as an SVG of a page has it, in pixels from the upper left."""

    chart: Chart
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = _HEIGHT - _BOTTOM

    @cached_property
    def _spans(self) -> tuple[tuple[float, float], tuple[float, float]]:
        lines = self.chart.lines
        xs = [x for line in lines for x, _ in line.points]
        ys = [y for line in lines for _, y in line.points]
        ys += [y for line in lines for _, *ends in line.band for y in ends]
        return _span(xs, 0.0), _span(ys, 0.04)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        (first, last), (low, high) = self._spans
        across = (x - first) / (last - first) * (self.right - self.left)
        up = (y - low) / (high - low) * (self.bottom - self.top)
        return round(self.left + across, 1), round(self.bottom - up, 1)

    def _path(self, points: Points) -> str:
        return " ".join("{},{}".format(*self._at(x, y)) for x, y in points)

    @property
    def across(self) -> list[tuple[float, str]]:
        """Where the ticks of the lower axis stand, and what they say: whole numbers."""
        first, last = self._spans[0]
        return [(self._at(x, 0)[0], f"{x:g}") for x in ticks(first, last, 6) if x == int(x)]

    @property
    def up(self) -> list[tuple[float, str]]:
        """Where the ticks of the left axis stand, and what they say."""
        low, high = self._spans[1]
        return [(self._at(0, y)[1], f"{y:.6g}") for y in ticks(low, high, 5)]

    @property
    def borders(self) -> list[float]:
        """Where the borders stand."""
        return [self._at(x, 0)[0] for x in self.chart.borders if self._spans[0][0] <= x <= self._spans[0][1]]

    @property
    def marked(self) -> list[tuple[float, float, int]]:
        """Where what is kept stands, and its colour."""
        return [(*self._at(x, y), colour % COLOURS) for x, y, colour in self.chart.marked]

    @property
    def strokes(self) -> list[Stroke]:
        """The lines."""
        return [self._stroke(line) for line in self.chart.lines]

    def _stroke(self, line: Line) -> Stroke:
        points, band = _thinned(line.points), _thinned(line.band)
        edge = [(x, high) for x, _, high in band] + [(x, low) for x, low, _ in reversed(band)]
        # A line through one point would not be seen.
        dots = tuple(self._at(x, y) for x, y in points) if len(points) < 3 else ()
        colour, dash = line.colour % COLOURS, line.colour // COLOURS % 4
        return Stroke(line.label, colour, dash, self._path(points), self._path(edge), dots)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to `high`, at most about so many: 0, 20, 40."""
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10, 20) if size * factor >= rough)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _span(values: Sequence[float], margin: float) -> tuple[float, float]:
    """From the lowest to the highest of the values, with a margin of so large a part; never nothing."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        more = 0.1 * abs(high) or 1.0
        return low - more, high + more
    return low - margin * (high - low), high + margin * (high - low)


def _thinned(points: Sequence[T]) -> Sequence[T]:
    """Every so manieth of the points, and the last."""
    step = math.ceil(len(points) / _MOST)
    return points if step < 2 else [*points[:-1:step], points[-1]]
