"""Interval: how far a measured figure may lie from the true one: 95 % confidence intervals."""

import math
from statistics import NormalDist

from budgetnet.values import number

LEVEL = 0.95
"""The confidence of every interval, unless another one is asked for."""
_PIECES = 400


def wilson(right: float, images: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval of an accuracy of which `right` of `images` were: (lowest, highest) in [0, 1].

    It says how far the accuracy on these images may lie from that on all images of their kind; how much
    another training would differ it does not know. (NaN, NaN) of nothing. Raises ValueError for more right
    ones than images, and for a level that is not between 0 and 1.
    Reference: Wilson (1927), https://doi.org/10.1080/01621459.1927.10502953.
    """
    number("wilson's level", level, above=0, below=1)
    if not images or math.isnan(right):
        return math.nan, math.nan
    number("wilson's images", images, above=0)
    number("wilson's right", right, least=0, most=images)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, more = right / images, z * z / images
    middle = (share + more / 2) / (1 + more)
    half = z / (1 + more) * math.sqrt(share * (1 - share) / images + more / (4 * images))
    # At the ends it is 0 and 1 exactly, which rounding may miss.
    return (0.0 if right <= 0 else middle - half), (1.0 if right >= images else middle + half)


def student(freedom: float, level: float = LEVEL) -> float:
    """How many standard errors on either side of a mean an interval reaches: Student's t.

    `freedom` is n - 1 for the mean of n runs; 12.71 for two of them, 4.30 for three. NaN below two runs.
    Reference: Student (1908), https://doi.org/10.2307/2331554.
    """
    number("student's level", level, above=0, below=1)
    if not freedom >= 1:
        return math.nan
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(high)


def _within(angle: float, freedom: float) -> float:
    """The probability that |t| is below sqrt(freedom) tan(angle): a smooth integral, by Simpson's rule."""
    step = angle / _PIECES
    heights = [math.pow(math.cos(step * k), freedom - 1) for k in range(_PIECES + 1)]
    area = step / 3 * (2 * sum(heights) + 2 * sum(heights[1::2]) - heights[0] - heights[-1])
    whole = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)) * math.sqrt(math.pi) / 2
    return area / whole


def interval_text(ends: tuple[float, float]) -> str:
    """An interval of an accuracy as a person reads it: "81.61..86.15 %"; "" where there is none."""
    low, high = max(0.0, ends[0]), min(1.0, ends[1])
    return "" if math.isnan(ends[0]) else f"{100 * low:.2f}..{100 * high:.2f} %"
