"""Small layers without weights to learn: a constant factor, and batch norm with its options by name."""

import torch
from torch import Tensor, nn

from budgetnet.layers.arguments import require_counts, require_positive


def scale(factor: float) -> "Scale":
    """Multiply by a constant: (B, ...) -> (B, ...). Raises ValueError for a factor that is not above 0.

    After the last linear layer it makes the logits, and with plain SGD the steps of that layer, smaller.
    """
    require_positive("scale", factor=factor)
    return Scale(factor)


class Scale(nn.Module):
    """x times `factor`."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        return x * self.factor

    def extra_repr(self) -> str:
        """What `print` shows between the brackets."""
        return f"factor={self.factor:g}"


def batch_norm(
    channels: int, *, momentum: float = 0.1, eps: float = 1e-5, weight: bool = True
) -> nn.BatchNorm2d:
    """torch's batch norm, to be passed as `norm=partial(batch_norm, momentum=0.4)`.

    (B, channels, H, W) -> (B, channels, H, W). `momentum` is the part of the running statistics that each
    step replaces, 0.1 being torch's own. With `weight=False` the weights stay at 1 and do not learn; they are
    counted as parameters all the same. Raises ValueError for counts below 1 and numbers outside their range.
    Reference: https://arxiv.org/abs/1502.03167.
    """
    require_counts("batch_norm", channels=channels)
    require_positive("batch_norm", momentum=momentum, eps=eps)
    if momentum > 1:
        raise ValueError(f"batch_norm: momentum should be above 0 and at most 1, not {momentum!r}")
    norm = nn.BatchNorm2d(channels, eps=eps, momentum=momentum)
    if not weight:
        assert isinstance(norm.weight, torch.nn.Parameter)
        norm.weight.requires_grad_(False)
    return norm
