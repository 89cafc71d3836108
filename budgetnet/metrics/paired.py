"""Paired: two models on the very same images: by how much one is better, and whether that may be chance."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from torch import Tensor

from budgetnet.metrics.interval import LEVEL
from budgetnet.values import described


@dataclass(frozen=True)
class Paired:
    """How many images `both` models called right, only the `first`, only the `second`, and `neither`."""

    both: int
    first: int
    second: int
    neither: int

    @property
    def images(self) -> int:
        """All of them."""
        return self.both + self.first + self.second + self.neither

    @property
    def difference(self) -> float:
        """The accuracy of the first less that of the second."""
        return (self.first - self.second) / self.images if self.images else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference, with half an image added to each count.

        Reference: Agresti and Min (2005), https://doi.org/10.1002/sim.1781.
        """
        images, first, second = self.images + 2, self.first + 0.5, self.second + 0.5
        middle = (first - second) / images
        spread = math.sqrt((first + second) - (first - second) ** 2 / images) / images
        half = NormalDist().inv_cdf((1 + LEVEL) / 2) * spread
        return max(-1.0, middle - half), min(1.0, middle + half)

    @property
    def p(self) -> float:
        """McNemar's exact test: how likely two equally good models differ as much on such images.

        Only images count that one of the two called right: these are tosses of a coin.
        Reference: McNemar (1947), https://doi.org/10.1007/BF02295996.
        """
        tosses, fewer = self.first + self.second, min(self.first, self.second)
        ways = (
            math.lgamma(tosses + 1) - math.lgamma(k + 1) - math.lgamma(tosses - k + 1)
            for k in range(fewer + 1)
        )
        return min(1.0, 2 * math.fsum(math.exp(each - tosses * math.log(2)) for each in ways))

    def __str__(self) -> str:
        low, high = (100 * end for end in self.interval)
        return (
            f"{100 * self.difference:+.2f} points (95 %: {low:+.2f}..{high:+.2f}) on {self.images:,} images; "
            f"right alone {self.first:,} and {self.second:,} times, McNemar's exact test p = {self.p:.3g}"
        )


def paired(first: Tensor, second: Tensor) -> Paired:
    """Two models' answers to the same images: (N,) each, true where they were right. Raises ValueError."""
    for each in (first, second):
        if not isinstance(each, Tensor) or each.ndim != 1:
            shown = described(each) if isinstance(each, Tensor) else f"{each!r:.60}"
            raise ValueError(
                f"paired's answers should be tensors (N,), not {shown}: true where a model was right"
            )
    if len(first) != len(second):
        raise ValueError(f"two models are compared on the same images, not on {len(first)} and {len(second)}")
    ones, others = first.bool().cpu(), second.bool().cpu()
    counts = (ones & others, ones & ~others, ~ones & others, ~ones & ~others)
    return Paired(*(int(each.sum()) for each in counts))
