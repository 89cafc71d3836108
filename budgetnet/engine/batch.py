"""Batch: the images that a step reads, the views that it shows of them, and what their logits come to."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from budgetnet.augment import Window, window_of
from budgetnet.engine.team import Team
from budgetnet.engine.training import Training
from budgetnet.pseudo import fixmatch_loss
from budgetnet.recipe import FixMatch, Phase


@dataclass(frozen=True)
class Windows:
    """Which rows of a batch, and of FixMatch's unlabelled images, a process of several reads."""

    labelled: Window
    unlabelled: Window | None

    @classmethod
    def of(cls, team: Team, phase: Phase, count: int) -> "Windows | None":
        """Those of a batch of `count` images; None for all, where there is one process."""
        if team.alone:
            return None
        own, how = team.share(count), phase.pseudo
        labelled = window_of(phase.augment, own, count)
        if not isinstance(how, FixMatch):
            return cls(labelled, None)
        theirs = slice(own.start * how.ratio, own.stop * how.ratio)
        return cls(labelled, window_of([*how.weak, *how.strong], theirs, count * how.ratio))


@dataclass(frozen=True)
class Stored:
    """Stored images uint8 (B, C, H, W) at the positions `chosen`, their labels, and FixMatch's unlabelled.

    A process of several has those of its `window`s of the batch alone.
    """

    chosen: Tensor
    images: Tensor
    labels: Tensor
    unlabelled: Tensor | None = None
    windows: Windows | None = None


@dataclass(frozen=True)
class Batch:
    """Views (B, C, r, r) and their labels; the weak and strong views of FixMatch where it is at work."""

    images: Tensor
    labels: Tensor
    weak: Tensor | None = None
    strong: Tensor | None = None

    @property
    def shown(self) -> Tensor:
        """All views that go through the model, (N, C, r, r).

        Labelled, weak and strong ones are one batch, as the paper's norms see them.
        """
        if self.weak is None or self.strong is None:
            return self.images
        return torch.cat([self.images, self.weak, self.strong])

    @property
    def sizes(self) -> list[int]:
        """How many views there are of each kind, in the order in which they are shown."""
        return [len(views) for views in (self.images, self.weak, self.strong) if views is not None]

    @property
    def ratio(self) -> int:
        """How many unlabelled images there are for each labelled one."""
        return 0 if self.weak is None else len(self.weak) // len(self.images)

    def parts(self, count: int) -> Iterator["Batch"]:
        """The batch in `count` parts, or as many as there are images."""
        if count == 1:
            yield self
            return
        count = min(count, len(self.images))
        pieces = [
            [None] * count if tensor is None else list(torch.tensor_split(tensor, count))
            for tensor in (self.images, self.labels, self.weak, self.strong)
        ]
        for images, labels, weak, strong in zip(*pieces, strict=True):
            assert images is not None
            assert labels is not None
            yield Batch(images, labels, weak, strong)


def loss_of(training: Training, phase: Phase, batch: Batch, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of the logits of all that a batch shows; those (B, K) of its labelled views; the share."""
    how = phase.pseudo
    if isinstance(how, FixMatch) and batch.weak is not None:
        logits, of_weak, of_strong = torch.split(logits, batch.sizes)
        unlabelled, share = fixmatch_loss(of_weak, of_strong, how.threshold)
        return training.recipe.loss(logits, batch.labels) + how.weight * unlabelled, logits, share
    loss = training.recipe.loss(logits, batch.labels)
    return loss, logits, loss.new_full((), -1.0)


def figures_of(loss: Tensor, logits: Tensor, labels: Tensor, share: Tensor) -> Tensor:
    """Loss, accuracy and share of pseudo-labels of logits (B, K) and labels, (3,)."""
    # A teacher's labels stand before the true ones, (B, 2, K).
    given = labels[:, 1] if labels.ndim == 3 else labels
    truth = given if given.ndim == 1 else given.argmax(dim=1)
    accuracy = (logits.detach().argmax(dim=1) == truth).float().mean()
    return torch.stack((loss.detach(), accuracy, share.detach()))
