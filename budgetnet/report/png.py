"""Pictures: the one door to matplotlib, and grids of stored images and their training views."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from budgetnet.augment import view
from budgetnet.data import Split
from budgetnet.files import reason, write_whole
from budgetnet.recipe import Phase

_GAP = 4
_TILE = 96


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
    """Write a figure whole into a PNG file, or an SVG file where the name says so. Raises ValueError."""
    from matplotlib import rc_context

    drawn = io.BytesIO()
    if Path(path).suffix == ".svg":
        # Text as text and nothing drawn by lot: a small file, and the same one from the same figures.
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": "budgetnet"}):
            figure.savefig(drawn, format="svg", metadata={"Date": None})
    else:
        figure.savefig(drawn, dpi=120, format="png")
    try:
        # Not through a link that lies in a run's folder under this name.
        write_whole(Path(path), drawn.getvalue())
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: str | Path, error: OSError) -> ValueError:
    """The refusal of a file that the disk does not let us write."""
    return ValueError(f"{path} cannot be written: {reason(error)}; choose another file or folder")


def views(
    split: Split, phase: Phase, *, classes: int, columns: int = 8, rows: int = 6, seed: int = 0
) -> Tensor:
    """A grid uint8 (3, H, W): a row of stored images, then `rows` rows of training views of the same images.

    The images are spread evenly over the split, the rows over the phase: a ramp's resolution grows downwards.
    Every image stands in a square tile of one size, enlarged by whole factors where it is tiny.
    """
    if not len(split):
        raise ValueError("a grid of views needs images, and the split is empty")
    count = min(columns, len(split))
    chosen = torch.linspace(0, len(split) - 1, count).round().long()
    images, labels = split[chosen]
    shown = [images.cpu()]
    for row in range(rows):
        generator = torch.Generator().manual_seed(seed * 1_000 + row)
        resolution = phase.resolution_at(row / rows if row + 1 < rows else math.nextafter(1.0, 0.0))
        seen, _ = view(
            images, labels, phase.augment, resolution=resolution, classes=classes, generator=generator
        )
        shown.append(seen.clamp(0, 1).mul(255).round().to(torch.uint8).cpu())
    return _grid(shown)


def _grid(rows: Sequence[Tensor]) -> Tensor:
    """Rows of uint8 images (N, C, h, w), each of its own size, as one image (3, H, W) on white."""
    from torchvision.utils import make_grid

    largest = max(max(row.shape[-2:]) for row in rows)
    side = largest * max(1, _TILE // largest)
    tiles = []
    for row in rows:
        factor = side // max(row.shape[-2:])
        large = row.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
        down, across = (side - size for size in large.shape[-2:])
        edges = (across // 2, across - across // 2, down // 2, down - down // 2)
        tiles.append(functional.pad(large, edges, value=255))
    grid: Tensor = make_grid(torch.cat(tiles), nrow=len(rows[0]), padding=_GAP, pad_value=255)
    return grid


def save_png(image: Tensor, path: str | Path) -> None:
    """Write an image uint8 (3, H, W) to a PNG file. Raises ValueError where it cannot be written."""
    from PIL import Image

    target = Path(path)
    try:
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(target, format="PNG")
    except OSError as error:
        raise unwritable(target, error) from None
