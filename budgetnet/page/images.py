"""Images: grids and strips of stored images and their training views, and how pictures are written."""

import base64
import io
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from budgetnet.augment import view
from budgetnet.data import Split
from budgetnet.files import reason, write_whole
from budgetnet.pictures import encoded
from budgetnet.recipe import Phase
from budgetnet.text import inline

_GAP = 4
_TILE = 96
_TITLE = 20


def write_figure(figure: Any, path: str | Path) -> None:
    """Write a figure whole into a PNG file, or an SVG file where the name says so. Raises ValueError."""
    write_file(encoded(figure, "svg" if Path(path).suffix == ".svg" else "png"), path)


def write_file(content: bytes, path: str | Path) -> None:
    """Write a file whole. Raises ValueError."""
    try:
        # Not through a link that lies in a run's folder under this name.
        write_whole(Path(path), content)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written: {reason(error)}; choose another file or folder"
        ) from None


def make_folder(folder: Path) -> None:
    """Make a folder where it is missing. Raises ValueError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written: {reason(error)}; choose another file or folder"
        ) from None


def views(
    split: Split, phase: Phase, *, classes: int, columns: int = 8, rows: int = 6, seed: int = 0
) -> Tensor:
    """A grid uint8 (3, H, W): a row of stored images, then `rows` rows of training views of the same images.

    The images are spread evenly over the split, the rows over the phase: a ramp's resolution grows downwards.
    Every image stands in a square tile of one size, enlarged by whole factors where it is tiny. Above each
    column stands the name of its class, where the split knows it.
    """
    chosen = _spread(len(split), columns)
    grid = _grid(_seen(split, chosen, phase, classes, rows, seed))
    if not split.classes:
        return grid
    labels = split.labels.cpu()[chosen].tolist()
    return torch.cat(
        [_titles([split.classes[label] if label >= 0 else "" for label in labels], grid), grid], dim=1
    )


def _titles(names: Sequence[str], grid: Tensor) -> Tensor:
    """A line of black names on white, one in the middle of each column of a grid (C, H, W), as wide as it."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    width = (grid.shape[2] - _GAP) // len(names)
    line = Image.new("L", (grid.shape[2], _TITLE), 255)
    # Pillow's own font knows few letters; matplotlib brings another.
    drawing = find_spec("matplotlib")
    own = Path(drawing.origin or "").parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if drawing else Path()
    size = _TITLE - 7
    font = ImageFont.truetype(str(own), size) if own.is_file() else ImageFont.load_default(size)
    draw = ImageDraw.Draw(line)
    for at, name in enumerate(map(inline, names)):
        shown = name
        while len(shown) > 1 and draw.textlength(shown, font) > width - _GAP:
            name = name[:-1]
            shown = f"{name}…"
        left = _GAP + at * width + (width - _GAP - draw.textlength(shown, font)) / 2
        draw.text((left, 2), shown, fill=0, font=font)
    return torch.from_numpy(np.array(line)).expand(grid.shape[0], -1, -1)


def strips(split: Split, phase: Phase, *, classes: int, rows: int = 4) -> list[tuple[str, int]]:
    """One column of `views` for each of some images of different classes, as a data URI, and its label."""
    first: dict[int, int] = {}
    spread = _spread(len(split), 400)
    for at, label in zip(spread.tolist(), split.labels.cpu()[spread].tolist()):
        first.setdefault(label, at)
    chosen = list(first.values())[:8]
    chosen += [at for at in _spread(len(split), 8).tolist() if at not in chosen][: 8 - len(chosen)]
    positions = torch.tensor(chosen)
    shown = _seen(split, positions, phase, classes, rows, 0)
    labels = split.labels.cpu()[positions].tolist()
    columns = [_grid([row[at : at + 1] for row in shown]) for at in range(len(labels))]
    return [(uri(column), label) for column, label in zip(columns, labels)]


def uri(image: Tensor, side: int = 0) -> str:
    """An image uint8 (C, H, W) as the address of itself, enlarged by a whole factor to about `side`."""
    factor = max(1, side // max(image.shape[-2:]))
    large = image.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    drawn = io.BytesIO()
    _pillow(large).save(drawn, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(drawn.getvalue()).decode()}"


def _pillow(image: Tensor) -> Any:
    from PIL import Image

    image = image.cpu()
    # Of images of other channels the first three are shown, or the first.
    shown = image[0] if len(image) < 3 else image[:3].permute(1, 2, 0)
    return Image.fromarray(shown.contiguous().numpy())


def _spread(length: int, count: int) -> Tensor:
    """So many positions (B,) at most, evenly spread over so many."""
    if not length:
        raise ValueError("a grid of views needs images, and the split is empty")
    return torch.linspace(0, length - 1, min(count, length)).round().long()


def _seen(split: Split, chosen: Tensor, phase: Phase, classes: int, rows: int, seed: int) -> list[Tensor]:
    """The stored images at these positions, and so many rows of views of them, each of one size."""
    images, labels = split[chosen]
    shown = [images.cpu()]
    for row in range(rows):
        generator = torch.Generator().manual_seed(seed * 1_000 + row)
        resolution = phase.resolution_at(row / rows if row + 1 < rows else math.nextafter(1.0, 0.0))
        seen, _ = view(
            images, labels, phase.augment, resolution=resolution, classes=classes, generator=generator
        )
        shown.append(seen.clamp(0, 1).mul(255).round().to(torch.uint8).cpu())
    return shown


def _grid(rows: Sequence[Tensor]) -> Tensor:
    """Rows of uint8 images (N, C, h, w), each of its own size, as one image (3, H, W) on white."""
    largest = max(max(row.shape[-2:]) for row in rows)
    side = largest * max(1, _TILE // largest)
    tiles = []
    for row in rows:
        factor = side // max(row.shape[-2:])
        large = row.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
        down, across = (side - size for size in large.shape[-2:])
        edges = (across // 2, across - across // 2, down // 2, down - down // 2)
        tiles.append(functional.pad(large, edges, value=255))
    # As torchvision.utils.make_grid does it, which would cost a second to import.
    framed = functional.pad(torch.cat(tiles), (_GAP, 0, _GAP, 0), value=255)
    count, channels, height, width = framed.shape
    table = framed.view(len(rows), count // len(rows), channels, height, width).permute(2, 0, 3, 1, 4)
    grid = functional.pad(table.reshape(channels, len(rows) * height, -1), (0, _GAP, 0, _GAP), value=255)
    return grid.expand(3, -1, -1) if channels == 1 else grid


def save_png(image: Tensor, path: str | Path) -> None:
    """Write an image uint8 (3, H, W) to a PNG file. Raises ValueError where it cannot be written."""
    drawn = io.BytesIO()
    _pillow(image).save(drawn, format="PNG")
    write_file(drawn.getvalue(), path)
