"""Average: an exponential moving average of a model's weights and statistics, kept on the model's device."""

import copy
from itertools import chain

import torch
from torch import Tensor, nn

from budgetnet.recipe import EMA


def _tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in chain(model.parameters(), model.buffers())]


class Average:
    """A copy of `model` that follows it as `ema` says. Its `model` is always in evaluation mode."""

    # torch's AveragedModel keeps its counter on the device and reads it at every update, which waits.

    def __init__(self, model: nn.Module, ema: EMA) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.ema = ema
        self.updates = 0

    def update(self, model: nn.Module) -> None:
        """Move towards `model` by one step; integer buffers are copied."""
        mine, theirs = _tensors(self.model), _tensors(model)
        floating = [i for i, tensor in enumerate(mine) if tensor.is_floating_point()]
        weight = 1 - self.ema.at(self.updates)
        torch._foreach_lerp_([mine[i] for i in floating], [theirs[i] for i in floating], weight)
        for i, tensor in enumerate(mine):
            if not tensor.is_floating_point():
                tensor.copy_(theirs[i])
        self.updates += 1
