"""Evaluation and Prediction: a model's answers over a split or over images, gathered without waiting."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from budgetnet.augment import looks, test_view, view
from budgetnet.data import Interleaved, Split, at_hand, reading
from budgetnet.engine.evaluation import BEST, Evaluation, Mistake, Scoring
from budgetnet.engine.memory import Chunks
from budgetnet.engine.team import Team
from budgetnet.metrics import by_class, scored
from budgetnet.randomness import TEST, drawn, order, own_randomness, reseed
from budgetnet.recipe import Test

_MISTAKES = 24
"""Images that an evaluation remembers as most confidently mistaken."""


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
            unanswered=int(sure.isnan().sum()),
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
