"""The one door to matplotlib: a blank figure, and a figure written into a PNG file."""

import io
from pathlib import Path
from typing import Any

from budgetnet.files import reason, write_whole


class NoPlot(ValueError):
    """Nothing can be drawn: there is nothing to draw, or matplotlib is not installed."""


def blank(width: float, height: float) -> Any:
    """An empty figure of so many inches. Raises `NoPlot` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NoPlot(
            "a plot as PNG needs matplotlib, which is not installed: pip install 'budgetnet[plot]'"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def write(figure: Any, path: str | Path) -> None:
    """Write a figure whole into a PNG file. Raises ValueError where it cannot be written."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120, format="png")
    try:
        # Not through a link that lies in a run's folder under this name.
        write_whole(Path(path), drawn.getvalue())
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: str | Path, error: OSError) -> ValueError:
    """The refusal of a file that the disk does not let us write."""
    return ValueError(f"{path} cannot be written: {reason(error)}; choose another file or folder")
