"""Evaluation and Prediction: a model's answers over a split or over images, gathered without waiting."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from html import escape
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from budgetnet.augment import looks, test_view, view
from budgetnet.data import Finding, Interleaved, Split, at_hand, reading
from budgetnet.engine.memory import Chunks
from budgetnet.engine.team import Team
from budgetnet.metrics import (
    Answers,
    ClassFigures,
    Paired,
    by_class,
    class_rows,
    interval_text,
    macro,
    paired,
    scored,
    wilson,
)
from budgetnet.pictures import FEW, NoTemplates, cells, confusion_figure, rendered
from budgetnet.randomness import TEST, drawn, order, own_randomness, reseed
from budgetnet.recipe import Test
from budgetnet.text import frame
from budgetnet.values import finite

BEST = 5
"""An image counts for top-5 when its class is among so many best ones."""
_LONG = ("pairs", "said", "truth", "mistakes")
"""What has an entry for each image."""
MATRIX = 1000
"""Of more classes than that nobody is given the whole confusion matrix unasked."""
_MISTAKES = 24
"""Images that an evaluation remembers as most confidently mistaken."""


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
    `mistakes` are the images that were mistaken most confidently, the surest first.
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
        """This model beside another one on the very same images: the difference, and McNemar's exact test."""
        if not torch.equal(self.truth, other.truth) or self.classes != other.classes:
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
        return (
            f"accuracy {100 * self.accuracy:.2f} % (95 %: {interval_text(self.interval)}), "
            f"top-5 {100 * self.top5:.2f} %, loss {self.loss:.4f} "
            f"on {self.images:,} images at {self.resolution} px"
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


@dataclass(frozen=True)
class Engine:
    """How a batch is put through a model: on which device, in which precision and memory format.

    Where several processes train, `synchronised` batch norms take the statistics of the whole batch.
    """

    device: torch.device
    autocast: torch.dtype | None = None
    memory_format: torch.memory_format = torch.contiguous_format
    synchronised: bool = False

    def forward(self, model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """The logits (B, K) of a batch of float images in [0, 1]."""
        images = images.contiguous(memory_format=self.memory_format)
        cast: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if self.autocast is not None:
            cast = torch.autocast(self.device.type, self.autocast)
        with cast:
            return model(images)


@contextlib.contextmanager
def trying(model: nn.Module, *, batch_statistics: bool = False) -> Iterator[None]:
    """Evaluation mode (or, for parity, training mode with its statistics untouched) and no gradients."""
    modes = {module: module.training for module in model.modules()}
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    tracking = [m.track_running_stats for m in norms]
    # Normalises by the batch and leaves the running statistics alone.
    model.train(batch_statistics)
    try:
        if batch_statistics:
            for norm in norms:
                norm.track_running_stats = False
        with torch.inference_mode():
            yield
    finally:
        for norm, tracked in zip(norms, tracking, strict=True):
            norm.track_running_stats = tracked
        for module, mode in modes.items():
            module.training = mode


def evaluate(
    model: nn.Module,
    split: Split | Interleaved,
    scoring: Scoring,
    test: Test,
    *,
    engine: Engine,
    resolution: int,
    batch_size: int = 256,
    seed: int = 0,
    chunks: Chunks | None = None,
) -> Evaluation:
    """The figures of `model` over `split`, tested as `test` says for a phase that ends at `resolution`.

    Where memory runs out a batch goes through in parts, as `chunks` remembers.
    """
    chunks = chunks or Chunks()
    resize, crop = test.at(resolution)
    count = len(scoring.classes)
    tally, augmented = _Tally(scoring, engine.device), _augmented(test)
    batches, images_seen = _batches(split, test, batch_size, seed)

    def seen(views: Tensor) -> Tensor:
        return averaged(model, views, test, engine)

    def plainly(stored: Tensor) -> Tensor:
        return seen(test_view(stored, resize=resize, crop=crop))

    with (
        trying(model, batch_statistics=test.batch_statistics),
        own_randomness(engine.device),
        reading(split, batches[chunks.team.rank :: chunks.team.size]) as source,
    ):
        for number, chosen in chunks.turns(batches):
            # A model that draws in a test too is measured the same each time.
            reseed(engine.device, drawn(seed, TEST, number))
            images, labels = source[chosen]
            if augmented:
                generator = torch.Generator().manual_seed(drawn(seed, TEST, number))
                images, labels = view(
                    images, labels, test.augment, resolution=crop, classes=count, generator=generator
                )
            logits = chunks.through(seen if augmented else plainly, images)
            check_shape(tuple(logits.shape), count)
            tally.add(logits, labels)
        tally.gather(chunks.team, images_seen, batch_size)
        positions = torch.cat(list(batches)) if augmented else None  # type: ignore[arg-type]
        return tally.evaluation(images_seen, crop, positions)


def evaluation_of(chances: Tensor, labels: Tensor, scoring: Scoring, resolution: int) -> Evaluation:
    """The figures of class probabilities (N, K) for images with these labels (N,), whoever gave them."""
    tally = _Tally(scoring, torch.device("cpu"))
    tally.add(chances.float().clamp(min=torch.finfo(torch.float32).tiny).log(), labels.cpu())
    return tally.evaluation(len(labels), resolution)


class _Tally:
    """What a model says of images and what they are, batch by batch; nothing waits before it is read."""

    def __init__(self, scoring: Scoring, device: torch.device) -> None:
        self._scoring, self._classes = scoring, len(scoring.classes)
        self._logits = [torch.empty(0, self._classes, device=device)]
        self._losses = [torch.zeros(1, device=device)]
        none = torch.empty(0, dtype=torch.int64, device=device)
        self._said, self._truth = [none], [none]
        self._sure = [torch.empty(0, device=device)]
        self._near = torch.zeros((), dtype=torch.int64, device=device)
        self._numbers = torch.arange(self._classes, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """A batch: logits (B, K) and labels (B,)."""
        self._losses.append(F.cross_entropy(logits, labels, reduction="sum")[None])
        self._said.append(logits.argmax(dim=1))
        self._truth.append(labels)
        self._sure.append(logits.float().softmax(dim=1).amax(dim=1))
        if self._scoring.metrics:
            self._logits.append(logits.float())
        if self._classes > BEST:
            # topk takes any of those that are equal; here the first of them come first, as for argmax, to
            # which NaN is more than all else.
            truth = labels[:, None]
            own = logits.gather(1, truth)
            behind = (logits < own) | ((logits == own) & (self._numbers >= truth))
            self._near += (behind.sum(dim=1) > self._classes - BEST).sum()

    def gather(self, team: Team, images: int, size: int) -> None:
        """Add what others of a team saw of `images`, of whose batches of `size` each took some."""
        if team.alone:
            return
        batches = torch.split(torch.arange(images), size)
        mine = torch.arange(len(batches))[team.rank :: team.size]
        rows = torch.cat([torch.empty(0, dtype=torch.int64), *(batches[at] for at in mine.tolist())])
        device = self._near.device
        each = [
            (mine + 1, len(batches) + 1, self._losses),
            *((rows, images, held) for held in (self._said, self._truth, self._sure)),
        ]
        each += [(rows, images, self._logits)] if self._scoring.metrics else []
        for at, count, held in each:
            own = torch.cat(held[1:]) if len(held) > 1 else held[0][:0]
            held[:] = [held[0][:0], team.gathered(own, at.to(device), count)]
        team.sum(self._near)

    def evaluation(self, images: int, resolution: int, positions: Tensor | None = None) -> Evaluation:
        """The figures of what was added; the device is waited for here.

        `positions` (N,) are those in the split of what was added, where that was in another order.
        """
        classes = self._scoring.classes
        # Apple's GPUs have no float64.
        wide = torch.float32 if self._near.device.type == "mps" else torch.float64
        total = torch.zeros((), dtype=wide, device=self._near.device)
        for each in torch.cat(self._losses):
            total += each
        loss, near = torch.stack((total, self._near.to(wide))).tolist()
        # Brought here together, since each of them would be waited for; float32 has all numbers of classes.
        answers = torch.stack(
            [torch.cat(each).float() for each in (self._said, self._truth, self._sure)]
        ).cpu()
        said, truth, sure = answers[0].long(), answers[1].long(), answers[2]
        top5 = round(near) if self._classes > BEST else len(truth)
        # Never as large as all pairs of classes: only those that there are.
        numbers, times = torch.unique(truth * self._classes + said, return_counts=True)
        counted = zip(numbers.tolist(), times.tolist(), strict=True)
        pairs = tuple((*divmod(pair, self._classes), count) for pair, count in counted)
        figures, metrics = by_class(pairs, classes), self._scoring.metrics if images else ()
        return Evaluation(
            accuracy=sum(each.right for each in figures) / images if images else math.nan,
            top5=top5 / images if images else math.nan,
            loss=loss / images if images else math.nan,
            images=images,
            resolution=resolution,
            classes=classes,
            per_class=tuple(each.recall for each in figures),
            pairs=pairs,
            metrics=scored(metrics, torch.cat(self._logits).cpu(), truth, classes) if metrics else {},
            said=said,
            truth=truth,
            mistakes=_mistakes(said, truth, sure, positions),
        )


def _mistakes(said: Tensor, truth: Tensor, sure: Tensor, positions: Tensor | None) -> tuple[Mistake, ...]:
    """The images that were mistaken most confidently: answers, labels and confidences (N,) on the CPU."""
    wrong = (said != truth).nonzero().flatten()
    sure = sure[wrong].nan_to_num(0.0)
    first = sure.sort(descending=True, stable=True).indices[:_MISTAKES]
    at = wrong[first]
    images = at if positions is None else positions[at]
    columns = (images.tolist(), truth[at].tolist(), said[at].tolist(), sure[first].tolist())
    return tuple(map(Mistake, *columns))


def _plain(figure: Any) -> Any:
    """A figure, or several, as JSON has it."""
    if isinstance(figure, dict):
        return {name: finite(each) for name, each in figure.items()}
    return type(figure)(map(finite, figure)) if isinstance(figure, list | tuple) else finite(figure)


def _augmented(test: Test) -> bool:
    return bool(test.augment) or test.views > 1


def _batches(
    split: Split | Interleaved, test: Test, batch_size: int, seed: int
) -> tuple[Sequence[Tensor | slice], int]:
    """The positions of a test's images, batch by batch, and how many they are."""
    count = len(split) * test.views if _augmented(test) else len(split)
    if test.batch_statistics and count > batch_size:
        count = count // batch_size * batch_size
    if _augmented(test):
        return torch.split(order(len(split), test.views, seed, 0)[:count], batch_size), count
    if not (isinstance(split, Interleaved) or at_hand(split)):
        return torch.split(torch.arange(count), batch_size), count
    # Slices share the split's memory: nothing is gathered.
    return [slice(at, min(at + batch_size, count)) for at in range(0, count, batch_size)], count


def check_shape(shape: tuple[int, ...], classes: int) -> None:
    """Refuse logits that are not (B, classes)."""
    if shape[1:] != (classes,):
        raise ValueError(
            f"the model should give one logit for each of the {classes} classes, (B, {classes}), and gives "
            f"(B, {', '.join(map(str, shape[1:]))}); build it with classes={classes}"
        )


def averaged(model: nn.Module, images: Tensor, test: Test, engine: Engine) -> Tensor:
    """The logits (B, K) of views (B, C, r, r), averaged over the looks that the test takes at them."""
    if not (test.mirror or test.shift):
        return engine.forward(model, images).float()
    taken = looks(images, mirror=test.mirror, shift=test.shift)
    return torch.stack([weight * engine.forward(model, look).float() for weight, look in taken]).sum(dim=0)


def answers(
    model: nn.Module,
    batches: Iterator[Tensor],
    *,
    engine: Engine,
    resize: int,
    crop: int,
    test: Test | None = None,
    chunks: Chunks | None = None,
) -> tuple[Tensor, Tensor]:
    """Labels (N,) and class probabilities (N, K) on the CPU for batches of uint8 images (B, C, H, W).

    Each image is looked at as `test` says, once without it. Labels are those of the largest logits: different
    logits may have the same probability.
    """
    looked, chunks = test or Test(), chunks or Chunks()
    labels, probabilities = [torch.empty(0, dtype=torch.int64)], list[Tensor]()

    def seen(images: Tensor) -> Tensor:
        views = test_view(images.to(engine.device, non_blocking=True), resize=resize, crop=crop)
        return averaged(model, views, looked, engine)

    with trying(model):
        for images in batches:
            logits = chunks.through(seen, images)
            labels.append(logits.argmax(dim=1))
            probabilities.append(logits.softmax(dim=1))
    if not probabilities:
        return labels[0], torch.empty(0, 0)
    return torch.cat(labels[1:]).cpu(), torch.cat(probabilities).cpu()
