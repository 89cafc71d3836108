"""Pieces: a few images at a time on a CPU, so that what is made in between stays in the cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PIECE = 1 << 17
"""Pixels of each colour that a thread of a CPU works on at a time; measured in benchmarks/views.py."""


@dataclass(frozen=True)
class Pass:
    """One pass over a batch: `work` makes (b, C, *size) of some of its images (b, C, h, w), those at a slice.

    That is clamped to [0, 1] at the end, and before another pass too unless it is `bounded`: within [0, 1]
    but for rounding. On the way it makes about so many `pixels` for each image.
    """

    work: Callable[[Tensor, slice], Tensor]
    size: tuple[int, int]
    pixels: int
    bounded: bool


def unit(images: Tensor) -> Tensor:
    """uint8 (B, C, H, W) to float32 in [0, 1]; what is floating already is left alone."""
    return images if images.is_floating_point() else images.float().mul_(1 / 255)


def in_pieces(passes: Sequence[Pass], images: Tensor) -> Tensor:
    """The images (B, C, H, W) after all passes, float32 (B, C, h, w); a few at a time on a CPU.

    There what is made in between stays in the cache, and its memory is used again. Each image comes out the
    same in any piece.
    """
    if not passes:
        return images
    count = len(images)
    step = max(1, PIECE // max(one.pixels for one in passes)) * torch.get_num_threads()
    if images.device.type != "cpu" or count <= step:
        return _some(passes, images, slice(None)).clamp_(0, 1)
    result = torch.empty(count, images.shape[1], *passes[-1].size)
    for start in range(0, count, step):
        which = slice(start, start + step)
        torch.clamp(_some(passes, images[which], which), 0, 1, out=result[which])
    return result


def _some(passes: Sequence[Pass], images: Tensor, which: slice) -> Tensor:
    pixels = images
    for at, one in enumerate(passes):
        pixels = one.work(pixels if not at or passes[at - 1].bounded else pixels.clamp_(0, 1), which)
    return pixels
