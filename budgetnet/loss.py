"""Losses: functions of logits (B, K) and labels, (B,) class indices or (B, K) probabilities, to a scalar."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LabelSmoothingLoss:
    """Cross-entropy whose targets are softened by `smoothing`, in [0, 1); the mean over the batch.

    There are two conventions. `spread="all"` is torch's: `smoothing / K` on every class, the true one
    included. `spread="others"` puts `smoothing / (K - 1)` on each of the other classes and
    `1 - smoothing` on the true one; it equals torch's with `smoothing * K / (K - 1)`. Labels may be class
    indices (B,) or probabilities (B, K), so it composes with mixup. Reference:
    https://arxiv.org/abs/1512.00567.
    """

    smoothing: float = 0.1
    spread: Literal["all", "others"] = "all"

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"LabelSmoothingLoss's smoothing should be in [0, 1), not {self.smoothing!r}")
        if self.spread not in ("all", "others"):
            raise ValueError(
                "LabelSmoothingLoss's spread should be 'all' (torch's convention) or 'others', "
                f"not {self.spread!r}"
            )

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        classes = logits.shape[1]
        smoothing = self.smoothing
        if self.spread == "others":
            if classes < 2:
                raise ValueError("LabelSmoothingLoss(spread='others') needs at least 2 classes, found 1")
            smoothing = smoothing * classes / (classes - 1)
        if smoothing <= 1:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        # torch refuses more than 1, which "others" can ask for: the same sum, written out.
        target = labels if labels.ndim == 2 else F.one_hot(labels, classes).to(logits.dtype)
        target = (1 - smoothing) * target + smoothing / classes
        return -(target * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
