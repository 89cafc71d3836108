"""Preprocess: from a photo to a network's input, in words and numbers that need no Python."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.augment import test_view
from budgetnet.exporting.graph import INPUT, OUTPUT
from budgetnet.layers import Standardise
from budgetnet.modelfile import Card
from budgetnet.text import inline
from budgetnet.trainer import gather

JSON, PAGE = "preprocess.json", "preprocess.md"
GREY = (0.299, 0.587, 0.114)
EXAMPLE = (12, 18)
"""Height and width of the image in the worked example."""


def preprocess(model: nn.Module, card: Card, sides: tuple[int, int]) -> dict[str, Any]:
    """All that turns a photo into the input of `model`, tested at `sides` (resize, crop), JSON-able."""
    resize, crop = sides
    inside = next((each for each in model.modules() if isinstance(each, Standardise)), None)
    mean, std = (
        ((), ()) if inside is None else (each.flatten().tolist() for each in (inside.mean, inside.std))
    )
    edge = round((resize - crop) / 2)
    return {
        "photo": {
            "size": list(card.stored or (resize, resize)),
            "part": "all" if card.shape == "squash" else "centre",
            "filter": "triangle, antialiased",
            "rounded": True,
        },
        "grey": list(GREY) if card.channels == 1 else None,
        "divide_by": 255,
        "resize": {"size": [resize, resize], "filter": "triangle, antialiased", "rounded": False},
        "crop": {"size": [crop, crop], "top": edge, "left": edge},
        "input": {
            "name": INPUT,
            "type": "float32",
            "shape": ["N", card.channels, crop, crop],
            "range": [0, 1],
        },
        "output": {"name": OUTPUT, "type": "float32", "shape": ["N", "classes"]},
        "standardised_inside": {"mean": list(mean), "std": list(std)},
        "looks": {"mirror": card.mirror, "shift": card.shift},
    }


def example_image() -> Tensor:
    """The worked example's image, uint8 (H, W, 3)."""
    height, width = EXAMPLE
    y, x, c = torch.arange(height)[:, None, None], torch.arange(width)[:, None], torch.arange(3)
    return ((7 * x * x + 13 * y * y + 31 * c * (x + y)) % 256).to(torch.uint8)


def example_input(card: Card, sides: tuple[int, int]) -> Tensor:
    """What predict makes of that image, by the very code that it uses: (1, C, crop, crop)."""
    # Pillow is for files alone.
    from PIL import Image

    with TemporaryDirectory() as folder:
        path = Path(folder) / "example.png"
        Image.fromarray(example_image().numpy()).save(path)
        images = next(gather(str(path), card, batch_size=1, resolution=sides[1]).batches)
    return test_view(images, resize=sides[0], crop=sides[1])


def page(card: Card, steps: dict[str, Any], shown: Tensor, logits: Tensor) -> str:
    """The page beside a file: each step in words, and the example's input (1, C, crop, crop) and logits."""
    numbered = [
        textwrap.fill(f"{at}. {' '.join(step.split())}", 112, subsequent_indent="   ")
        for at, step in enumerate(_steps(card, steps), start=1)
    ]
    height, width = EXAMPLE
    begins = ", ".join(map(str, example_image().flatten()[:12].tolist()))
    example = f"""An image of {width} x {height} pixels has in row y, column x and channel c (0 to 2) the byte
        (7 x x + 13 y y + 31 c (x + y)) modulo 256, so that it begins {begins}. The first ten numbers of its
        input, along the first rows of the first channel:"""
    last = (
        "What this file says of it (logits, the first ten; processors round their last digits differently):"
    )
    parts = [
        "# From a photo to the input, and from the output to a class",
        "\n".join(numbered),
        textwrap.fill(" ".join(_FILTER.split()), 112),
        "## An example",
        textwrap.fill(" ".join(example.split()), 112),
        f"    {_numbers(shown.flatten()[:10].tolist())}",
        last,
        f"    {_numbers(logits[0, :10].tolist(), 3)}",
    ]
    return "\n\n".join(parts) + "\n"


def as_json(card: Card, steps: dict[str, Any]) -> str:
    """The same for programs, with the names of the classes."""
    return json.dumps({**steps, "classes": list(card.classes)}, indent=2, ensure_ascii=False) + "\n"


def _steps(card: Card, steps: dict[str, Any]) -> Iterator[str]:
    """From the photo to the class, a paragraph each."""
    height, width = steps["photo"]["size"]
    resize, crop, edge = steps["resize"]["size"][0], steps["crop"]["size"][0], steps["crop"]["top"]
    yield """Decode the photo, turn it as its EXIF orientation says, and make it RGB of 8 bits; what is
        transparent goes over white. (Of a JPEG of at least twice the size that is asked for below, the
        decoder may be asked for a half, a quarter or an eighth: that moves pixels by a few of 255.)"""
    if steps["photo"]["part"] == "all":
        yield "Take all of it, squeezed, so that it begins at 0 and is W x H pixels large."
    else:
        yield f"""Of an image of W x H pixels take the largest part at its centre that is {width} wide to
            {height} high: w = min(W, H * {width} / {height}), h = min(H, W * {height} / {width}), from left
            = (W - w) / 2 and top = (H - h) / 2 on, which may lie within a
            pixel (Pillow keeps them as float32)."""
    yield f"""Resize that to {width} x {height} (width x height), first across, then down, by the filter
        below, and round to whole numbers from 0 to 255 after each of both."""
    if steps["grey"] is not None:
        yield "Make it one channel: grey = round(0.299 R + 0.587 G + 0.114 B)."
    yield "Divide by 255."
    yield f"""Resize to {resize} x {resize} by the same filter, without rounding. Where that is the size
        already, nothing changes."""
    yield f"Cut out {crop} x {crop} pixels from row {edge} and column {edge} on."
    inside = steps["standardised_inside"]
    mean, std = (_numbers(inside[name]) or "none" for name in ("mean", "std"))
    yield f"""The input `{INPUT}` is float32 (N, {card.channels}, {crop}, {crop}): images, channels (R, G,
        B), rows, columns, from 0 to 1. Do not standardise: the network does that itself (mean {mean};
        standard deviation {std})."""
    names = ", ".join(f"{k} {inline(name)}" for k, name in enumerate(card.classes)) or "numbered from 0"
    yield f"""The output `{OUTPUT}` is float32 (N, K). The class is that of the largest; probabilities are
        exp(logit), divided by their sum. Classes: {names}. {_looks(card)}"""


def _numbers(values: list[float], digits: int = 6) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def _looks(card: Card) -> str:
    if not (card.mirror or card.shift):
        return "The network is shown each image once."
    mirrored = "the image and its mirror image, left to right" if card.mirror else "these looks"
    shifted = f"""The image where it is counts one half; shifted by {card.shift} pixels up and left, and
        down and right, one quarter each, continued by its reflection (the outermost pixel not repeated)."""
    averages = f"The accuracy that was reported averages the logits of {mirrored}."
    return f"{averages} {shifted if card.shift else ''} One look alone is cheaper."


_FILTER = """The filter from n numbers, or from a part of them that begins at b and is n long, to m: let s =
n / m and r = max(s, 1). Output i lies at c = b + (i + 0.5) s. It is the mean of the inputs j from
max(0, floor(c - r + 0.5)) to below min(N, floor(c + r + 0.5)), N being how many there are in all, with the
weights max(0, 1 - |j + 0.5 - c| / r). This is Pillow's BILINEAR, and torch's
bilinear with antialias=True. Where bytes come out, Pillow rounds the weights, once they sum to 1, to whole
multiples of 1 / 4194304, and a half upwards;
for some sizes it goes down first, which moves some bytes by one."""
