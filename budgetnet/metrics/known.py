"""Known: the metrics that this field reports, each as a value: few exact lines on logits and labels.

Where the logits of an image are no numbers every one of them is NaN, which counts as not measured.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from budgetnet.metrics.classes import ClassFigures, by_class, macro
from budgetnet.values import true_or_false, whole


def unanswered(logits: Tensor) -> int:
    """Of how many images the logits (N, K) are no numbers; -inf may rule out some classes."""
    return int((~logits.amax(dim=1).isfinite()).sum()) if len(logits) else 0


def _classes(logits: Tensor, labels: Tensor) -> tuple[ClassFigures, ...]:
    """The figures of each class by its number."""
    count = logits.shape[1]
    numbers, times = torch.unique(labels * count + logits.argmax(dim=1), return_counts=True)
    pairs = [(*divmod(pair, count), many) for pair, many in zip(numbers.tolist(), times.tolist())]
    return by_class(pairs, [str(k) for k in range(count)])


def _mean_or_each(
    logits: Tensor, labels: Tensor, of: Callable[[ClassFigures], float], *, per_class: bool
) -> float | list[float]:
    if unanswered(logits):
        return [math.nan] * logits.shape[1] if per_class else math.nan
    figures = _classes(logits, labels)
    return [of(each) for each in figures] if per_class else macro(figures, of)


@dataclass(frozen=True)
class Precision:
    """The part of what was called a class that is of it: the mean over classes, or `per_class`."""

    per_class: bool = False
    name: ClassVar[str] = "precision"

    def __post_init__(self) -> None:
        true_or_false("Precision's per_class", self.per_class)

    def __call__(self, logits: Tensor, labels: Tensor) -> float | list[float]:
        return _mean_or_each(logits, labels, lambda each: each.precision, per_class=self.per_class)


@dataclass(frozen=True)
class Recall:
    """The part of a class that was called so: the mean over classes, or `per_class`."""

    per_class: bool = False
    name: ClassVar[str] = "recall"

    def __post_init__(self) -> None:
        true_or_false("Recall's per_class", self.per_class)

    def __call__(self, logits: Tensor, labels: Tensor) -> float | list[float]:
        return _mean_or_each(logits, labels, lambda each: each.recall, per_class=self.per_class)


@dataclass(frozen=True)
class F1:
    """The harmonic mean of precision and recall: the mean over classes (macro), or `per_class`."""

    per_class: bool = False
    name: ClassVar[str] = "f1"

    def __post_init__(self) -> None:
        true_or_false("F1's per_class", self.per_class)

    def __call__(self, logits: Tensor, labels: Tensor) -> float | list[float]:
        return _mean_or_each(logits, labels, lambda each: each.f1, per_class=self.per_class)


@dataclass(frozen=True)
class BalancedAccuracy:
    """The mean of the recalls of the classes that have images: each class counts the same."""

    name: ClassVar[str] = "balanced_accuracy"

    def __call__(self, logits: Tensor, labels: Tensor) -> float:
        if unanswered(logits):
            return math.nan
        there = [each for each in _classes(logits, labels) if each.images]
        return macro(there, lambda each: each.recall)


@dataclass(frozen=True)
class AUC:
    """The area under the ROC curve: how often an image of a class has more of it than one of another class.

    Of two classes it is that of the second; of more the mean over the classes that have images, each against
    the rest, by their probabilities, or `per_class`. Images that are level count half.
    Reference: Hand and Till (2001), https://doi.org/10.1023/A:1010920819831.
    """

    per_class: bool = False
    name: ClassVar[str] = "auc"

    def __post_init__(self) -> None:
        true_or_false("AUC's per_class", self.per_class)

    def __call__(self, logits: Tensor, labels: Tensor) -> float | list[float]:
        if unanswered(logits):
            return [math.nan] * logits.shape[1] if self.per_class else math.nan
        scores = _odds(logits.double())
        areas = [_area(scores[:, k], labels == k) for k in range(logits.shape[1])]
        if self.per_class:
            return areas
        if len(areas) == 2:
            return areas[1]
        known = torch.tensor(areas, dtype=torch.float64)
        return float(known.nanmean())


def _odds(logits: Tensor) -> Tensor:
    """log(p / (1 - p)) of each class's probability p, (N, K): in the order of p, also where p rounds to 1."""
    logs = logits.log_softmax(dim=1)
    odds = logs - torch.log1p(-logs.exp())
    best, at = logits.max(dim=1, keepdim=True)
    others = (logits - best).scatter(1, at, -math.inf).logsumexp(dim=1, keepdim=True)
    # Only the best class can have more than one half.
    return torch.where(logs > -math.log(2), -others, odds)


def _area(scores: Tensor, positive: Tensor) -> float:
    """The area under a ROC curve by ranks, NaN where one side has no image."""
    images, others = int(positive.sum()), int((~positive).sum())
    _, where, times = torch.unique(scores, return_inverse=True, return_counts=True)
    # The mean rank of those that are level, from 1.
    ranks = times.cumsum(0).double() - (times.double() - 1) / 2
    above = float(ranks[where][positive].sum()) - images * (images + 1) / 2
    return above / (images * others) if images and others else math.nan


@dataclass(frozen=True)
class ECE:
    """The expected calibration error: how far confidence lies from accuracy, over `bins` equal ranges of it.

    0 is perfect, and lower is better. Reference: https://arxiv.org/abs/1706.04599.
    """

    bins: int = 15
    name: ClassVar[str] = "ece"

    def __post_init__(self) -> None:
        whole("ECE's bins", self.bins)

    def __call__(self, logits: Tensor, labels: Tensor) -> float:
        if unanswered(logits):
            return math.nan
        confidence = logits.double().softmax(dim=1).max(dim=1).values
        right = (logits.argmax(dim=1) == labels).double()
        # Ranges are open below and closed above.
        at = ((confidence * self.bins).ceil() - 1).clamp(0, self.bins - 1).long()
        apart = torch.zeros(self.bins, dtype=torch.float64).index_add_(0, at, right - confidence)
        return float(apart.abs().sum() / len(labels))


@dataclass(frozen=True)
class TopK:
    """The part of images whose class is among the `k` best ones; of equal logits the first come first."""

    k: int

    def __post_init__(self) -> None:
        whole("TopK's k", self.k)

    @property
    def name(self) -> str:
        return f"top{self.k}_accuracy"

    def __call__(self, logits: Tensor, labels: Tensor) -> float:
        if unanswered(logits):
            return math.nan
        own, numbers = logits.gather(1, labels[:, None]), torch.arange(logits.shape[1])
        before = (logits > own) | ((logits == own) & (numbers < labels[:, None]))
        return float((before.sum(dim=1) < self.k).double().mean())
