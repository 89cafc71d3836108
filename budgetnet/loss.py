"""Losses: functions of logits (B, K) and labels, (B,) class indices or (B, K) probabilities, to a scalar."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, Self, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from budgetnet.identity import UNSAID
from budgetnet.values import above_zero, number, share

Loss = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class Counting(Protocol):
    """A loss that depends on how many training images each class has. Any object with this method is one."""

    def of_counts(self, counts: Sequence[int]) -> Loss:
        """The loss for so many images of each class."""


def of_counts(loss: Loss, counts: Sequence[int]) -> Loss:
    """The loss for training images of which there are so many of each class, itself where that is all one."""
    return loss.of_counts(counts) if isinstance(loss, Counting) else loss


def _balanced(counts: Sequence[int]) -> list[float]:
    """What makes each class count as much as every other: N / (K * n), 1 for a class without images."""
    return [sum(counts) / (len(counts) * count) if count else 1.0 for count in counts]


@dataclass(frozen=True, eq=False)
class _Weights:
    """The weights of the classes, (K,), where the training is."""

    values: Tensor


@dataclass(frozen=True)
class LabelSmoothingLoss:
    """Cross-entropy whose targets are softened by `smoothing`, in [0, 1); the mean over the batch.

    There are two conventions. `spread="all"` is torch's: `smoothing / K` on every class, the true one
    included. `spread="others"` puts `smoothing / (K - 1)` on each of the other classes and
    `1 - smoothing` on the true one; it equals torch's with `smoothing * K / (K - 1)`. Labels may be class
    indices (B,) or probabilities (B, K), so it composes with mixup. Reference:
    https://arxiv.org/abs/1512.00567.

    `weights` are the classes' own, one for each, as torch's `cross_entropy` takes them. "balanced" makes them
    N / (K * n) of the n training images of each class when a training begins, so that rare classes count as
    much as common ones.
    """

    smoothing: float = 0.1
    spread: Literal["all", "others"] = "all"
    weights: Literal["balanced"] | Sequence[float] | _Weights | None = field(default=None, metadata=UNSAID)

    def __post_init__(self) -> None:
        share("LabelSmoothingLoss's smoothing", self.smoothing)
        if self.spread not in ("all", "others"):
            raise ValueError(
                "LabelSmoothingLoss's spread should be 'all' (torch's convention) or 'others', "
                f"not {self.spread!r}"
            )
        given: object = self.weights
        if given is None or isinstance(given, _Weights) or (isinstance(given, str) and given == "balanced"):
            return
        if hasattr(given, "tolist"):
            # A tensor's or an array's numbers.
            given = given.tolist()
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise ValueError(
                f"LabelSmoothingLoss's weights should be 'balanced' or a number for each class, not "
                f"{self.weights!r:.100}"
            )
        for weight in given:
            number("each of LabelSmoothingLoss's weights", weight, least=0)
        if not any(given):
            raise ValueError("LabelSmoothingLoss's weights should not all be 0: no image would count")
        object.__setattr__(self, "weights", tuple(given))

    def of_counts(self, counts: Sequence[int]) -> Self:
        """The loss with the weights that training images, so many of each class, ask for."""
        if self.weights is None or isinstance(self.weights, _Weights):
            return self
        weights = _balanced(counts) if self.weights == "balanced" else [float(each) for each in self.weights]
        if len(weights) != len(counts):
            raise ValueError(
                f"LabelSmoothingLoss has {len(weights)} weights, and there are {len(counts)} classes: give "
                "one for each"
            )
        return replace(self, weights=_Weights(torch.tensor(weights)))

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        classes = logits.shape[1]
        if labels.ndim == 3:
            raise ValueError(
                f"LabelSmoothingLoss needs labels (B,) or (B, K), found {tuple(labels.shape)}: a teacher's "
                "beside the given ones are for DistillationLoss"
            )
        smoothing, weights = self.smoothing, self._weights(logits)
        if self.spread == "others":
            if classes < 2:
                raise ValueError("LabelSmoothingLoss(spread='others') needs at least 2 classes, found 1")
            smoothing = smoothing * classes / (classes - 1)
        if smoothing <= 1:
            return F.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
        # torch refuses more than 1, which "others" can ask for: the same sum, written out.
        target = labels if labels.ndim == 2 else F.one_hot(labels, classes).to(logits.dtype)
        target = (1 - smoothing) * target + smoothing / classes
        if weights is not None:
            target = target * weights
        losses = -(target * torch.log_softmax(logits, dim=1)).sum(dim=1)
        if weights is None or labels.ndim == 2:
            return losses.mean()
        return losses.sum() / weights[labels].sum()

    def _weights(self, logits: Tensor) -> Tensor | None:
        if self.weights is None:
            return None
        if isinstance(self.weights, _Weights):
            return self.weights.values.to(logits.dtype)
        if self.weights == "balanced":
            raise ValueError(
                "LabelSmoothingLoss's weights='balanced' are known when a training begins: elsewhere give "
                "of_counts(data.train.counts(K))"
            )
        return logits.new_tensor(self.weights)


@dataclass(frozen=True)
class DistillationLoss:
    """What a teacher says beside what the labels say: w * T^2 * KL(teacher || student) + (1 - w) * hard.

    Logits (B, K) and labels (B, 2, K), which `Distill(teacher, temperature=T, beside=True)` gives with the
    same T: the teacher's probabilities softmax(teacher / T), and the given labels. KL is that of
    softmax(logits / T) from the teacher's, summed over classes, the mean over the batch; T^2 keeps its
    gradient of one size whatever T is. Raises ValueError for labels of another shape. Reference:
    https://arxiv.org/abs/1503.02531.

    Much code has KLDivLoss(log_softmax(s / T), softmax(t / T)) * T^2 * 2a + cross_entropy * (1 - a) instead.
    With the reduction "batchmean" that is 1 + a times the loss here with weight = 2a / (1 + a). With torch's
    default, a mean over the K classes as well, it is c times the loss here with weight = 2a / (c * K), where
    c = 1 - a + 2a / K: much less of a teacher than it looks. Adam hardly sees such a factor; with SGD it is
    one of the learning rate.

    Args:
        weight: w in [0, 1], the teacher's share.
        temperature: T above 0; above 1 the smaller of the teacher's probabilities count for more.
        hard: the loss of logits and the given labels (B, K).
    """

    weight: float
    temperature: float
    hard: Loss = LabelSmoothingLoss(0.0)

    def __post_init__(self) -> None:
        number("DistillationLoss's weight", self.weight, least=0, most=1)
        above_zero("DistillationLoss's temperature", self.temperature)
        if isinstance(self.hard, type) or not callable(self.hard):
            raise ValueError(
                f"DistillationLoss's hard should be a loss such as LabelSmoothingLoss(0.1), not {self.hard!r}"
            )

    def of_counts(self, counts: Sequence[int]) -> Self:
        """The loss whose hard one is for training images, so many of each class."""
        return replace(self, hard=of_counts(self.hard, counts))

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        batch, classes = logits.shape
        if tuple(labels.shape) != (batch, 2, classes):
            raise ValueError(
                f"DistillationLoss needs labels of shape ({batch}, 2, {classes}), found "
                f"{tuple(labels.shape)}: let Distill(teacher, beside=True) be the last step of augment"
            )
        teacher, given = labels.unbind(dim=1)
        student = torch.log_softmax(logits / self.temperature, dim=1)
        soft = F.kl_div(student, teacher, reduction="batchmean") * self.temperature**2
        return self.weight * soft + (1 - self.weight) * self.hard(logits, given)
