"""Mirrors: by coins drawn for each batch, or by coins that follow the images through the training."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from budgetnet.augment import draw
from budgetnet.augment.steps import Place
from budgetnet.augment.warp import same
from budgetnet.values import number, true_or_false

_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Flip:
    """Mirror each image left to right, or top to bottom, with probability `p`.

    As `torchvision.transforms.v2.RandomHorizontalFlip(p)` and `RandomVerticalFlip(p)`, drawn for each image.

    Args:
        p: probability in [0, 1].
        vertical: mirror top to bottom instead.
    """

    p: float = 0.5
    vertical: bool = False

    fused: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number("Flip's p", self.p, least=0, most=1)
        true_or_false("Flip's vertical", self.vertical)

    def maps(self, generator: draw.Source, count: int, height: int, width: int) -> Tensor:
        """(count, 3, 3) with 1 or -1 on the diagonal; see `Warp`."""
        maps = same(generator, count)
        axis = 1 if self.vertical else 0
        maps[:, axis, axis] = 1.0 - 2.0 * draw.chance(generator, count, self.p).double()
        return maps


@dataclass(frozen=True, eq=False)
class Mirror:
    """Mirror those images of a batch of which `which`, bool (B,) on the CPU, is true; nothing is drawn."""

    which: Tensor
    vertical: bool = False

    fused: ClassVar[bool] = True

    def maps(self, generator: draw.Source, count: int, height: int, width: int) -> Tensor:
        """(count, 3, 3) with 1 or -1 on the diagonal; see `Warp`."""
        maps = same(generator, count)
        axis = 1 if self.vertical else 0
        maps[:, axis, axis] = 1.0 - 2.0 * draw.given(generator, self.which, count).double()
        return maps


@dataclass(frozen=True)
class AlternatingFlip:
    """Mirror each image left to right in every other pass over the data, beginning with a coin of its own.

    Two passes in a row show an image both ways round, where independent coins show it the same way half of
    the time. The coin is a hash of the seed and the image's position. Where no place is known (see `Placed`)
    it is `Flip(0.5)`. Reference: https://arxiv.org/abs/2404.00498, section 3.6.

    Args:
        vertical: mirror top to bottom instead.
    """

    vertical: bool = False

    fused: ClassVar[bool] = True

    def __post_init__(self) -> None:
        true_or_false("AlternatingFlip's vertical", self.vertical)

    def placed(self, place: Place) -> Mirror:
        """The mirror of this batch."""
        return Mirror((coins(place.rows, place.seed) + place.passes) % 2 == 1, self.vertical)

    def maps(self, generator: draw.Source, count: int, height: int, width: int) -> Tensor:
        """(count, 3, 3) with 1 or -1 on the diagonal, of independent coins; see `Warp`."""
        return Flip(0.5, self.vertical).maps(generator, count, height, width)


MIRRORS = (Flip, AlternatingFlip, Mirror)
"""Warps that move each pixel to a pixel's place, whatever is drawn."""


def coins(rows: Tensor, seed: int) -> Tensor:
    """0 or 1 for each of the int64 `rows` (B,), by murmur3's finalizer of row and seed."""
    state = (rows ^ seed) & _MASK
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = ((state ^ (state >> shift)) * factor) & _MASK
    # The seed once more: rows that differ in it alone would otherwise only change places.
    state = ((state ^ (state >> 16) ^ (seed >> 7)) * 0x9E3779B1) & _MASK
    return (state >> 31) & 1
