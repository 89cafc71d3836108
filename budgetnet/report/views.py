"""What a model is given, to look at: stored images and their training views as a grid in a PNG."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from budgetnet.augment import view
from budgetnet.data import Split
from budgetnet.recipe import Phase
from budgetnet.report.png import unwritable

_GAP = 4
_TILE = 96


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
