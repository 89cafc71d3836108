"""Whole: a model that is given a process's share of a batch draws, and normalises, as for all of it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from budgetnet.engine.team import Team

_BY_ELEMENT = (F.dropout,)
_BY_CHANNEL = (F.dropout1d, F.dropout2d, F.dropout3d)
_IN_PLACE = (Tensor.bernoulli_, Tensor.uniform_, Tensor.normal_)
_NEW = (torch.rand, torch.randn)
_LIKE = (torch.rand_like, torch.randn_like)


class WholeBatch(TorchFunctionMode):
    """Within it a model that is given the `rows` of a batch of `count` views draws as for all of them.

    That holds for dropout, and for what is drawn with a row for each view; each process makes the draws of
    the whole batch, and takes its own. Batch norms that learn take the statistics of the whole batch where
    the team is `synchronised`; `settled` has the identities of the running ones that are the same everywhere
    then.
    """

    def __init__(self, team: Team, rows: Tensor, count: int) -> None:
        super().__init__()
        self._team, self.rows, self._count = team, rows, count
        self.settled: set[int] = set()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _BY_ELEMENT or function in _BY_CHANNEL:
            return self._dropped(function, *args, **kwargs)
        if function in _IN_PLACE and self._ours(args[0].shape) and not any(map(_tensor, args[1:])):
            drawn = function(args[0].new_empty(self._whole(args[0].shape)), *args[1:], **kwargs)
            return args[0].copy_(drawn[self.rows])
        if function in _LIKE and self._ours(args[0].shape):
            return function(args[0].new_empty(self._whole(args[0].shape)), **kwargs)[self.rows]
        if function in _NEW and args:
            shape = tuple(args) if isinstance(args[0], int) else tuple(args[0])
            if self._ours(shape):
                return function(self._whole(shape), **kwargs)[self.rows]
        if function is F.batch_norm and self._team.synchronised:
            return self._normalised(*args, **kwargs)
        return function(*args, **kwargs)

    def _ours(self, shape: Sequence[int]) -> bool:
        return len(shape) > 0 and shape[0] == len(self.rows)

    def _whole(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (self._count, *shape[1:])

    def _dropped(
        self,
        function: Callable[..., Any],
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        if not training or not p or not self._ours(input.shape):
            return function(input, p, training, inplace)  # type: ignore[no-any-return]
        shape = self._whole(input.shape)
        if function in _BY_CHANNEL:
            shape = (*shape[:2], *[1] * (len(shape) - 2))
        ones = torch.ones(shape, dtype=input.dtype, device=input.device)
        if input.ndim == 4 and not input.is_contiguous():
            # Numbers are drawn in the order of the memory.
            ones = ones.contiguous(memory_format=torch.channels_last)
        mask = function(ones, p)[self.rows]
        return input.mul_(mask) if inplace else input * mask

    def _normalised(
        self,
        input: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return F.batch_norm(input, mean, variance, weight, bias, training, momentum, eps)
        shape = (1, -1, *[1] * (input.ndim - 2))
        result, moments = _Synchronised.apply(
            input if input.dtype == torch.float64 else input.float(), self._team, eps
        )
        if mean is not None and variance is not None:
            with torch.no_grad():
                mean.lerp_(moments[0].to(mean.dtype), momentum)
                variance.lerp_(moments[1].to(variance.dtype), momentum)
            self.settled |= {id(mean), id(variance)}
        if weight is not None:
            result = result * weight.view(shape)
        if bias is not None:
            result = result + bias.view(shape)
        normal: Tensor = result.to(input.dtype)
        return normal


class _Synchronised(torch.autograd.Function):
    """(B, C, ...) normalised by mean and variance of all processes' rows; with mean and unbiased variance."""

    @staticmethod
    def forward(context: Any, input: Tensor, team: Team, eps: float) -> tuple[Tensor, Tensor]:
        dims = [0, *range(2, input.ndim)]
        shape = (1, -1, *[1] * (input.ndim - 2))
        channels, count = input.shape[1], input.numel() / max(1, input.shape[1])
        own = input.new_zeros(team.size, 2 * channels + 1)
        mean = input.mean(dims)
        spread = (input - mean.view(shape)).square().sum(dims)
        own[team.rank] = torch.cat([mean, spread, mean.new_full((1,), count)])
        each = team.sum(own)
        # The mean of means, and what the rows are apart within the processes and between them: a sum of
        # squares would lose digits.
        counts, means, spreads = each[:, -1:], each[:, :channels], each[:, channels:-1]
        total = counts.sum()
        mean = (means * counts).sum(0) / total
        spread = (spreads + counts * (means - mean).square()).sum(0)
        inverse = (spread / total + eps).rsqrt().view(shape)
        normal = (input - mean.view(shape)) * inverse
        moments = torch.stack([mean, spread / (total - 1)])
        context.save_for_backward(normal, inverse, total)
        context.team = team
        context.mark_non_differentiable(moments)
        return normal, moments

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        normal, inverse, total = context.saved_tensors
        gradient = gradients[0]
        dims = [0, *range(2, normal.ndim)]
        shape = (1, -1, *[1] * (normal.ndim - 2))
        sums = torch.stack([gradient.sum(dims), (gradient * normal).sum(dims)])
        mean, along = (context.team.sum(sums) / total).view(2, -1).unbind()
        return inverse * (gradient - mean.view(shape) - normal * along.view(shape)), None, None


def _tensor(value: object) -> bool:
    return isinstance(value, Tensor)
