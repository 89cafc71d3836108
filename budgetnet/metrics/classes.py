"""Classes: precision, recall and F1 of each class, out of how often which class was called which."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from budgetnet.metrics.interval import wilson


@dataclass(frozen=True)
class ClassFigures:
    """One class: it has so many `images`, so many images were `called` it, and so many of these are `right`.

    The figures are in [0, 1], NaN where there is nothing to divide by.
    """

    name: str
    images: int
    called: int
    right: int

    @property
    def recall(self) -> float:
        """Which part of its images was called so."""
        return self.right / self.images if self.images else math.nan

    @property
    def precision(self) -> float:
        """Which part of what was called so is of the class."""
        return self.right / self.called if self.called else math.nan

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall, 0 where one of them is 0 or there is none."""
        return 2 * self.right / (self.images + self.called) if self.images + self.called else math.nan


@dataclass(frozen=True)
class ClassRow:
    """The figures of a class, the ends of its recall's 95 % interval, and what it was mostly `taken` for."""

    figures: ClassFigures
    interval: tuple[float, float]
    taken: str
    times: int


def class_rows(pairs: Sequence[tuple[int, int, int]], classes: Sequence[str]) -> list[ClassRow]:
    """What became of the images of each class; of pairs as `by_class` has them."""
    taken = [(0, 0)] * len(classes)
    for truth, said, times in pairs:
        if truth != said:
            taken[truth] = max(taken[truth], (times, -said))
    return [
        ClassRow(figures, wilson(figures.right, figures.images), classes[-other] if times else "", times)
        for figures, (times, other) in zip(by_class(pairs, classes), taken)
    ]


def by_class(pairs: Iterable[tuple[int, int, int]], classes: Sequence[str]) -> tuple[ClassFigures, ...]:
    """The figures of each class; a pair (i, j, n) says that n images of class i were called class j."""
    images, called, right = ([0] * len(classes) for _ in range(3))
    for truth, said, times in pairs:
        images[truth] += times
        called[said] += times
        right[truth] += times * (truth == said)
    return tuple(map(ClassFigures, classes, images, called, right))


def macro(figures: Sequence[ClassFigures], of: Callable[[ClassFigures], float]) -> float:
    """The mean of a figure over the classes that have images or were called, each counting the same.

    One that cannot be divided counts as 0, as scikit-learn has it by default.
    """
    values = [of(each) for each in figures if each.images or each.called]
    return sum(0.0 if math.isnan(v) else v for v in values) / len(values) if values else math.nan
