"""Evaluation and Prediction: what a model answered, as values with their figures and pictures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from html import escape
from typing import Any, NamedTuple

import torch
from torch import Tensor

from budgetnet.data import Finding
from budgetnet.metrics import (
    Answers,
    ClassFigures,
    Paired,
    by_class,
    class_rows,
    interval_text,
    macro,
    paired,
    wilson,
)
from budgetnet.pictures import FEW, NoTemplates, cells, confusion_figure, rendered
from budgetnet.text import frame
from budgetnet.values import finite

BEST = 5
"""An image counts for top-5 when its class is among so many best ones."""
_LONG = ("pairs", "said", "truth", "mistakes", "mark")
"""What has an entry for each image, or tells which they are."""
MATRIX = 1000
"""Of more classes than that nobody is given the whole confusion matrix unasked."""


class Mistake(NamedTuple):
    """The image at position `image` of a split, of class `truth`, that was `called` another, how surely."""

    image: int
    truth: int
    called: int
    confidence: float


def _none() -> Tensor:
    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Scoring:
    """What a model's answers are scored by: the names of its classes, and what metrics are asked for."""

    classes: tuple[str, ...]
    metrics: Sequence[Answers] = ()


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model over `images` labelled images; accuracies in [0, 1], loss in nats (cross-entropy).

    `confusion[i][j]` counts images of class i that were called class j; it is made when it is asked for.
    `pairs` are what it counts: (i, j, images) where there are any, rising. `per_class` are the recalls of the
    classes, NaN for one without images; `by_class` has their precision and F1 too. `top5` is over the best
    five classes, or all where there are fewer. `metrics` are those that were asked for, by name. `said` and
    `truth` are the classes (N,) that each image was called and that it has, in the order of the split.
    `mistakes` are the images that were mistaken most confidently, the surest first. `mark` tells the images
    from others: a digest of their names, or of what is in them. Of so many images as are `unanswered` the
    logits are no numbers (NaN or infinity), so that the loss is none either, and `said` means nothing.
    Of classes with the same logit the first comes first, here as in `predict` and wherever a model is asked.
    """

    accuracy: float
    top5: float
    loss: float
    images: int
    resolution: int
    classes: tuple[str, ...]
    per_class: tuple[float, ...]
    pairs: tuple[tuple[int, int, int], ...] = field(repr=False)
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    said: Tensor = field(default_factory=_none, repr=False, compare=False)
    truth: Tensor = field(default_factory=_none, repr=False, compare=False)
    mistakes: tuple[Mistake, ...] = field(default=(), repr=False)
    mark: str = field(default="", repr=False, compare=False)
    unanswered: int = 0

    @property
    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """All counts (K, K), most of which are 0 where there are many classes."""
        rows = [[0] * len(self.classes) for _ in self.classes]
        for truth, said, images in self.pairs:
            rows[truth][said] = images
        return tuple(map(tuple, rows))

    @property
    def by_class(self) -> tuple[ClassFigures, ...]:
        """Precision, recall and F1 of each class."""
        return by_class(self.pairs, self.classes)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy, by Wilson's rule: (lowest, highest)."""
        return wilson(self.accuracy * self.images, self.images)

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the recalls of the classes that have images."""
        there = [recall for recall in self.per_class if not math.isnan(recall)]
        return sum(there) / len(there) if there else math.nan

    @property
    def macro_f1(self) -> float:
        """The mean of the F1 of the classes that have images or were called."""
        return macro(self.by_class, lambda each: each.f1)

    @property
    def majority(self) -> ClassFigures:
        """The class with the most images, which alone would reach `majority.images / images`."""
        return max(self.by_class, key=lambda each: each.images)

    def against(self, other: "Evaluation") -> Paired:
        """This model beside another one on the very same images: the difference, and McNemar's exact test.

        Classes are told apart by their names. Raises ValueError for other images, or other classes.
        """
        if set(self.classes) != set(other.classes):
            odd = min(set(self.classes) ^ set(other.classes))
            raise ValueError(
                f"two models are compared that tell the same classes apart, and only one knows {odd}: "
                "evaluate each by itself"
            )
        here = torch.tensor([self.classes.index(name) for name in other.classes], dtype=torch.int64)
        others = self.mark != other.mark and "" not in (self.mark, other.mark)
        if others or not torch.equal(self.truth, here[other.truth]):
            raise ValueError("two models are compared on the same images: evaluate both on one split")
        return paired(self.said == self.truth, other.said == other.truth)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each class. Raises ValueError where there is no pandas."""
        names = ("name", "images", "called", "right", "precision", "recall", "f1")
        return frame([{name: getattr(each, name) for name in names} for each in self.by_class])

    @property
    def unrecognised(self) -> tuple[ClassFigures, ...]:
        """The classes with images of which none was recognised: their recall is 0."""
        return tuple(each for each in self.by_class if each.images and not each.right)

    def json(self) -> dict[str, Any]:
        """The figures as plain values, with the confusion matrix, or its `pairs` for over MATRIX classes."""
        entries = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _LONG}
        few, majority, classes = len(self.classes) <= MATRIX, self.majority, self.by_class
        entries |= {
            "interval": list(self.interval),
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "precision": [each.precision for each in classes],
            "f1": [each.f1 for each in classes],
            "majority": {"class": majority.name, "images": majority.images},
        }
        entries |= {"confusion": self.confusion} if few else {"pairs": self.pairs}
        return {name: _plain(value) for name, value in entries.items()}

    def plot(self) -> Any:
        """The confusion matrix as a figure of matplotlib: `.plot().savefig("confusion.png")`.

        Raises `NoPlot` (a ValueError) without matplotlib.
        """
        return confusion_figure(self.pairs, self.classes)

    def _repr_html_(self) -> str:
        """How a notebook shows it: the figures, each class, and the confusion matrix of a few classes."""
        classes = class_rows(self.pairs, self.classes)
        rows = cells(self.pairs, self.classes) if len(classes) <= FEW else []
        try:
            return rendered("evaluation.html", evaluation=self, classes=classes, rows=rows)
        except NoTemplates:
            return f"<pre>{escape(str(self))}</pre>"

    def __str__(self) -> str:
        doubt = f"; {no_numbers(self.unanswered, self.images)}" if self.unanswered else ""
        return (
            f"accuracy {100 * self.accuracy:.2f} % (95 %: {interval_text(self.interval)}), "
            f"top-5 {100 * self.top5:.2f} %, loss {self.loss:.4f} "
            f"on {self.images:,} images at {self.resolution} px{doubt}"
        )


@dataclass(frozen=True)
class Prediction:
    """`labels` (N,) class indices, `probabilities` (N, K), and the `classes`' names in order.

    `names` are the image files' paths, or the images' numbers; `findings` are the files that were left out.
    """

    labels: Tensor
    probabilities: Tensor
    classes: tuple[str, ...]
    names: tuple[str, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def confidence(self) -> Tensor:
        """The probability of each label, (N,)."""
        return self.probabilities.max(dim=1).values

    def named(self) -> list[str]:
        """The label of each image by name."""
        return [self.classes[label] for label in self.labels.tolist()]

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each image. Raises ValueError where there is no pandas."""
        rows = zip(
            self.names, self.named(), self.confidence.tolist(), self.probabilities.tolist(), strict=True
        )
        return frame(
            [
                {
                    "file": name,
                    "class": said,
                    "probability": p,
                    **{f"p_{c}": q for c, q in zip(self.classes, each)},
                }
                for name, said, p, each in rows
            ]
        )

    def top(self, k: int) -> list[list[tuple[str, float]]]:
        """For each image the `k` most probable classes, or all, as (name, probability), the label first."""
        chances = self.probabilities.clone()
        if len(chances):
            # Different logits may have the same probability.
            chances[torch.arange(len(chances)), self.labels] = 2.0
        best = chances.argsort(dim=1, descending=True, stable=True)[:, :k]
        shown = zip(best.tolist(), self.probabilities.gather(1, best).tolist())
        return [[(self.classes[label], p) for label, p in zip(*row)] for row in shown]


def no_numbers(unanswered: int, images: int) -> str:
    """How it is said that a model's logits for some images are NaN or infinity."""
    return f"the model gives NaN or infinity for {unanswered:,} of {images:,} images"


def _plain(figure: Any) -> Any:
    """A figure, or several, as JSON has it."""
    if isinstance(figure, dict):
        return {name: finite(each) for name, each in figure.items()}
    return type(figure)(map(finite, figure)) if isinstance(figure, list | tuple) else finite(figure)
