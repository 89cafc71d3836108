"""Evaluation and Prediction: a model's answers over a split or over images, gathered without waiting."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from budgetnet.augment import looks, test_view, view
from budgetnet.data import Split
from budgetnet.data.ahead import at_hand, reading
from budgetnet.data.interleaved import Interleaved
from budgetnet.data.kinds import Finding
from budgetnet.recipe import Test
from budgetnet.trainer.memory import Portions
from budgetnet.trainer.randomness import TEST, drawn, order, own_randomness


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model over `images` labelled images; accuracies in [0, 1], loss in nats (cross-entropy).

    `confusion[i][j]` counts images of class i that were called class j; `per_class` are its recalls, NaN for
    a class without images. `top5` is over the best five classes, or all where there are fewer.
    """

    accuracy: float
    top5: float
    loss: float
    images: int
    resolution: int
    classes: tuple[str, ...]
    per_class: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        return (
            f"accuracy {100 * self.accuracy:.2f} %, top-5 {100 * self.top5:.2f} %, loss {self.loss:.4f} "
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


@dataclass(frozen=True)
class Engine:
    """How a batch is put through a model: on which device, in which precision and memory format."""

    device: torch.device
    autocast: torch.dtype | None = None
    memory_format: torch.memory_format = torch.contiguous_format

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
    classes: tuple[str, ...],
    test: Test,
    *,
    engine: Engine,
    resolution: int,
    batch_size: int = 256,
    seed: int = 0,
    portions: Portions | None = None,
) -> Evaluation:
    """The figures of `model` over `split`, tested as `test` says for a phase that ends at `resolution`.

    Where memory runs out a batch goes through in parts, as `portions` remembers.
    """
    portions = portions or Portions()
    resize, crop = test.at(resolution)
    count = len(classes)
    tally, augmented = _Tally(count, engine.device), _augmented(test)
    batches, images_seen = _batches(split, test, batch_size, seed)

    def seen(views: Tensor) -> Tensor:
        return averaged(model, views, test, engine)

    def plainly(stored: Tensor) -> Tensor:
        return seen(test_view(stored, resize=resize, crop=crop))

    with (
        trying(model, batch_statistics=test.batch_statistics),
        own_randomness(engine.device),
        reading(split, batches) as source,
    ):
        for number, chosen in enumerate(batches):
            portions.pause()
            images, labels = source[chosen]
            if augmented:
                generator = torch.Generator().manual_seed(drawn(seed, TEST, number))
                images, labels = view(
                    images, labels, test.augment, resolution=crop, classes=count, generator=generator
                )
            logits = portions.through(seen if augmented else plainly, images)
            check_shape(tuple(logits.shape), count)
            tally.add(logits, labels)
        loss, top5, rows = tally.read()
    right = [rows[k][k] for k in range(count)]
    return Evaluation(
        accuracy=sum(right) / images_seen if images_seen else math.nan,
        top5=top5 / images_seen if images_seen else math.nan,
        loss=loss / images_seen if images_seen else math.nan,
        images=images_seen,
        resolution=crop,
        classes=classes,
        per_class=tuple(right[k] / sum(rows[k]) if sum(rows[k]) else math.nan for k in range(count)),
        confusion=tuple(tuple(row) for row in rows),
    )


class _Tally:
    """What a model says of images and what they are, batch by batch; nothing waits before it is read."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self._classes = classes
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        none = torch.empty(0, dtype=torch.int64, device=device)
        self._best, self._truth = [none.view(0, min(5, classes))], [none]

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """A batch: logits (B, K) and labels (B,)."""
        self._loss += F.cross_entropy(logits, labels, reduction="sum")
        self._best.append(logits.topk(min(5, self._classes), dim=1).indices)
        self._truth.append(labels)

    def read(self) -> tuple[float, float, list[list[int]]]:
        """The sum of the losses, how many images are among their best five, and the confusion matrix."""
        # Over all images at once: beside a tiny network a few operations a batch are much.
        best, labels = torch.cat(self._best), torch.cat(self._truth)
        confusion = labels.new_zeros(self._classes**2)
        # bincount would wait for the device.
        confusion.scatter_add_(0, labels * self._classes + best[:, 0], torch.ones_like(labels))
        loss, top5 = torch.stack((self._loss, (best == labels[:, None]).sum().double())).tolist()
        return loss, top5, confusion.view(self._classes, self._classes).tolist()


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


def probabilities(
    model: nn.Module,
    batches: Iterator[Tensor],
    *,
    engine: Engine,
    resize: int,
    crop: int,
    test: Test | None = None,
    portions: Portions | None = None,
) -> Tensor:
    """Class probabilities (N, K) on the CPU for batches of uint8 images (B, C, H, W).

    Each image is looked at as `test` says, once without it.
    """
    looked, portions, found = test or Test(), portions or Portions(), []

    def sure(images: Tensor) -> Tensor:
        seen = test_view(images.to(engine.device, non_blocking=True), resize=resize, crop=crop)
        return averaged(model, seen, looked, engine).softmax(dim=1)

    with trying(model):
        for images in batches:
            portions.pause()
            found.append(portions.through(sure, images))
    return torch.cat(found).cpu() if found else torch.empty(0, 0)
