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

GREY = (0.299, 0.587, 0.114)
EXAMPLE = (12, 18)
"""Height and width of the image in the worked example."""
_DOWN_FIRST = "H - height > max(0, 2 * (W - width))"
"""Of which images (H, W) Pillow makes (height, width) by going down before it goes across."""


def preprocess(
    model: nn.Module, card: Card, sides: tuple[int, int], batch: int | None = None
) -> dict[str, Any]:
    """All that turns a photo into the input of `model`, tested at `sides` (resize, crop), JSON-able.

    The file takes `batch` images at once, None for any number.
    """
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
            "down_first": _DOWN_FIRST if _goes_down_first() else None,
            "transparent": "over white",
            "exif": "turned",
        },
        "grey": list(GREY) if card.channels == 1 else None,
        "divide_by": 255,
        "resize": {"size": [resize, resize], "filter": "triangle, antialiased", "rounded": False},
        "crop": {"size": [crop, crop], "top": edge, "left": edge},
        "input": {
            "name": INPUT,
            "type": "float32",
            "shape": [batch or "N", card.channels, crop, crop],
            "range": [0, 1],
        },
        "output": {"name": OUTPUT, "type": "float32", "shape": [batch or "N", "classes"]},
        "standardised_inside": {"mean": list(mean), "std": list(std)},
        "looks": {"mirror": card.mirror, "shift": card.shift},
    }


def example_image(channels: int = 3) -> Tensor:
    """The worked example's image, uint8 (H, W, C); of greys it has three channels, as photos have."""
    height, width = EXAMPLE
    count = 3 if channels == 1 else channels
    y, x, c = torch.arange(height)[:, None, None], torch.arange(width)[:, None], torch.arange(count)
    return ((7 * x * x + 13 * y * y + 31 * c * (x + y)) % 256).to(torch.uint8)


def example_input(card: Card, sides: tuple[int, int]) -> Tensor:
    """What predict makes of that image, by the very code that it uses: (1, C, crop, crop)."""
    if card.channels not in (1, 3):
        array = example_image(card.channels).permute(2, 0, 1)
        images = next(gather(array[None], card, batch_size=1, resolution=sides[1]).batches)
        return test_view(images, resize=sides[0], crop=sides[1])
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
    image = example_image(card.channels)
    begins = ", ".join(map(str, image.flatten()[:12].tolist()))
    example = f"""An image of {width} x {height} pixels has in row y, column x and channel c (0 to
        {image.shape[2] - 1}) the byte (7 x x + 13 y y + 31 c (x + y)) modulo 256, so that it begins
        {begins}. The first ten numbers of its input, along the first rows of the first channel:"""
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


def as_json(card: Card, steps: dict[str, Any], **others: str) -> str:
    """The same for programs, with the names of the classes, and `others`."""
    shown = {**steps, "classes": list(card.classes), **others}
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


def _steps(card: Card, steps: dict[str, Any]) -> Iterator[str]:
    """From the photo to the class, a paragraph each."""
    yield from _from_photo(steps) if card.channels in (1, 3) else _from_array(card, steps)
    resize, crop, edge = steps["resize"]["size"][0], steps["crop"]["size"][0], steps["crop"]["top"]
    yield "Divide by 255."
    yield f"""Resize all of it to {resize} x {resize} by the same filter, in float32, without rounding.
        Where that is the size already, nothing changes."""
    yield f"Cut out {crop} x {crop} pixels from row {edge} and column {edge} on."
    order = " (R, G, B)" if card.channels == 3 else ""
    inside, count = steps["standardised_inside"], steps["input"]["shape"][0]
    mean, std = (_numbers(inside[name]) or "none" for name in ("mean", "std"))
    yield f"""The input `{INPUT}` is float32 ({count}, {card.channels}, {crop}, {crop}): images,
        channels{order}, rows, columns, from 0 to 1. Do not standardise: the network does that itself (mean
        {mean}; standard deviation {std})."""
    names = ", ".join(f"{k} {inline(name)}" for k, name in enumerate(card.classes)) or "numbered from 0"
    yield f"""The output `{OUTPUT}` is float32 ({count}, K). The class is that of the largest; probabilities
        are exp(logit), divided by their sum. Classes: {names}. {_looks(card)}"""


def _from_photo(steps: dict[str, Any]) -> Iterator[str]:
    """From the photo to bytes of the size that images were stored at, a paragraph each."""
    height, width = steps["photo"]["size"]
    yield f"""Decode the photo. (A JPEG of W x H pixels is decoded, by its DCT, at one s-th of its size,
        rounded up, s being the largest of 1, 2, 4 and 8 that is at most min(floor(W / {2 * width}),
        floor(H / {2 * height})). Without that, pixels differ by a few of 255.) Turn it as its EXIF
        orientation says, and make it RGB of 8 bits: of a palette its colours, of one grey three equal
        channels, of 16 bits round(v / 257). What is transparent goes over white: with an opacity a from 0 to
        255, v becomes round((a v + (255 - a) 255) / 255)."""
    if steps["photo"]["part"] == "all":
        yield "Take all of its W x H pixels, squeezed: left = 0, top = 0, w = W, h = H."
    else:
        yield f"""Of its W x H pixels take the largest part at the centre that is {width} wide to {height}
            high: let q = {width} / {height}, w = min(W, q H), h = min(H, W / q), left = (W - w) / 2, top =
            (H - h) / 2, which may lie within a pixel."""
    first = (
        """first across, then down; first down where H - {height} > max(0, 2 (W - {width}))"""
        if steps["photo"]["down_first"]
        else "first across, then down"
    ).format(height=height, width=width)
    yield f"""Resize that to {width} x {height} (width x height), {first}, by the filter below with bytes
        after each of both: across from begin = left to end = left + w, of W numbers in all; down from top to
        top + h, of H."""
    if steps["grey"] is not None:
        red, green, blue = steps["grey"]
        yield f"""Make it one channel: grey = round(({red} R + {green} G) + {blue} B), each number, product
            and sum a float32, a half to the even number."""


def _from_array(card: Card, steps: dict[str, Any]) -> Iterator[str]:
    """From an array of other channels than a photo's to the part of it that is shown, a paragraph each."""
    height, width = steps["photo"]["size"]
    yield f"""Take the image as bytes, {card.channels} channels in the order that the model learnt them in."""
    if steps["photo"]["part"] == "centre":
        yield f"""Of its W x H pixels take the part at the centre of w = min(W, round({width} H / {height}))
            columns from floor((W - w) / 2) and h = min(H, round({height} W / {width})) rows from
            floor((H - h) / 2) on."""


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


def _goes_down_first() -> bool:
    """Whether this Pillow goes down first for images that are high; before 13 none did."""
    # Pillow is for files alone.
    from PIL import __version__ as version

    return int(version.partition(".")[0]) >= 13


_FILTER = """The filter, from N numbers, of which the part from begin to end is taken, to m: let b and n
be begin and end - begin, each of the three (begin, end, n) rounded to float32; s = n / m and r = max(s,
1). Output i lies at c = b + (i + 0.5) s. It is the mean of the inputs j from max(0, floor(c - r + 0.5))
to below min(N, floor(c + r + 0.5)), with the weights max(0, 1 - |j + 0.5 - c| / r), divided by their
sum. With bytes it is all done in whole numbers: each divided weight becomes k = floor(4194304 weight +
0.5), and the output is floor((sum of k times byte + 2097152) / 4194304). This is Pillow's BILINEAR, and
torch's bilinear with antialias=True."""
