"""Pieces: a few images at a time on a CPU, so that what is made in between stays in the cache."""

from collections.abc import Callable

import torch
from torch import Tensor

PIECE = 1 << 17
"""Pixels of each colour that a thread of a CPU works on at a time; measured in benchmarks/views.py."""


def in_pieces(work: Callable[[slice], Tensor], images: Tensor, size: tuple[int, int], pixels: int) -> Tensor:
    """What `work` makes of images (B, C, H, W), (B, C, *size), a few at a time on a CPU.

    There what is made in between, of so many `pixels` an image, stays in the cache, and its memory is used
    again. Each image comes out the same in any piece.
    """
    count, step = len(images), max(1, PIECE // pixels) * torch.get_num_threads()
    if images.device.type != "cpu" or count <= step:
        return work(slice(None))
    result = torch.empty(count, images.shape[1], *size)
    for start in range(0, count, step):
        which = slice(start, start + step)
        result[which] = work(which)
    return result
