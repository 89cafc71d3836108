"""Mirrors whose coins are not drawn for each batch alone, but follow the images through the training."""

from dataclasses import dataclass

from torch import Tensor

from budgetnet.augment import draw
from budgetnet.augment.place import Place, coins
from budgetnet.augment.warp import Flip, same


@dataclass(frozen=True, eq=False)
class Mirror:
    """Mirror those images of a batch of which `which`, bool (B,) on the CPU, is true; nothing is drawn."""

    which: Tensor
    vertical: bool = False

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

    def __post_init__(self) -> None:
        if not isinstance(self.vertical, bool):
            raise ValueError(f"AlternatingFlip's vertical must be True or False, found {self.vertical!r}")

    def placed(self, place: Place) -> Mirror:
        """The mirror of this batch."""
        return Mirror((coins(place.rows, place.seed) + place.passes) % 2 == 1, self.vertical)

    def maps(self, generator: draw.Source, count: int, height: int, width: int) -> Tensor:
        """(count, 3, 3) with 1 or -1 on the diagonal, of independent coins; see `Warp`."""
        return Flip(0.5, self.vertical).maps(generator, count, height, width)


MIRRORS = (Flip, AlternatingFlip, Mirror)
"""Warps that move each pixel to a pixel's place, whatever is drawn."""
