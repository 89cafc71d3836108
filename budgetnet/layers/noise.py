"""What hides parts of a network while it trains: dropout and stochastic depth."""

from collections.abc import Sequence

from torch import Tensor, nn

from budgetnet.layers.arguments import require_rates


def dropout(rate: float) -> nn.Module:
    """Set single values to zero with probability `rate` in [0, 1) while training: (B, ...) -> (B, ...).

    Raises ValueError for a rate outside [0, 1). Reference: https://arxiv.org/abs/1207.0580.
    """
    require_rates("dropout", rate=rate)
    return nn.Dropout(rate)


def stochastic_depth(rate: float) -> nn.Module:
    """Set whole samples to zero with probability `rate` in [0, 1) while training: (B, ...) -> (B, ...).

    Put at the end of a residual branch, it skips that branch for some images of a batch; the others are
    divided by 1 - rate, so that the mean stays. Raises ValueError for a rate outside [0, 1). Reference:
    https://arxiv.org/abs/1603.09382.
    """
    require_rates("stochastic_depth", rate=rate)
    return StochasticDepth(rate)


def rising(rate: float, blocks: Sequence[int]) -> list[tuple[float, ...]]:
    """Rates of stochastic depth for stages of so many blocks: linear in depth, `rate` in the last block.

    Raises ValueError for a rate outside [0, 1). Reference: https://arxiv.org/abs/1603.09382.

    >>> rising(0.5, [1, 3])
    [(0.125,), (0.25, 0.375, 0.5)]
    """
    require_rates("rising", rate=rate)
    depth, stages = 0, []
    for count in blocks:
        stages.append(tuple(rate * (depth + index + 1) / sum(blocks) for index in range(count)))
        depth += count
    return stages


class StochasticDepth(nn.Module):
    """Zeroes whole samples of a batch at random while training; see `stochastic_depth`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * kept.div_(1 - self.rate)

    def extra_repr(self) -> str:
        """What `print` shows between the brackets."""
        return f"rate={self.rate:.4g}"
