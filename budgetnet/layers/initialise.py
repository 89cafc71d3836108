"""How the weights of a network start."""

import torch
from torch import nn

from budgetnet.layers.residual import Residual

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)


def kaiming(model: nn.Module, *, zero_init: bool = False) -> None:
    """Draw convolutions from Kaiming's normal distribution by fan-out, and set norms to 1 and 0, in place.

    The standard deviation is sqrt(2 / (outputs * kernel area)), as in torchvision's residual networks; biases
    of convolutions become 0 and linear layers are left as torch made them. With `zero_init` the last norm of
    every Residual's branch starts at 0, so that each block starts as its shortcut; that raises ValueError
    where there are none, or a branch has no norm. Reference: https://arxiv.org/abs/1502.01852,
    https://arxiv.org/abs/1706.02677.
    """
    for module in model.modules():
        if isinstance(module, _CONVS):
            # There is nothing to draw on meta, and the first draw there costs torch over a second of imports.
            if not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, _NORMS):
            _fill(module, 1.0)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if zero_init:
        last = _last_norms(model)
        if not last:
            raise ValueError("kaiming: zero_init needs Residual blocks, found none; leave zero_init out")
        for name, norm in last.items():
            if norm is None:
                raise ValueError(
                    f"kaiming: zero_init needs a norm with weights in every residual branch, found none in "
                    f"{name or 'the block'}; build it with a norm, or leave zero_init out"
                )
            _fill(norm, 0.0)


def dirac(model: nn.Module) -> None:
    """Let every convolution start by handing its input on, in place, as far as its filters go.

    Filter k gives input channel k for as many as there are of both, or of each of the groups; further filters
    stay as they were, and nothing else changes. Frozen weights are left alone. Raises ValueError for a model
    without a convolution that learns. Reference: https://arxiv.org/abs/2404.00498, section 3.3.
    """
    convolutions = [m for m in model.modules() if isinstance(m, _CONVS) and m.weight.requires_grad]
    if not convolutions:
        raise ValueError("dirac: the model should have a convolution that learns, and has none")
    for module in convolutions:
        # Entry by entry, which on meta costs time and does nothing.
        if module.weight.is_meta:
            continue
        with torch.no_grad():
            for filters in module.weight.chunk(module.groups):
                nn.init.dirac_(filters[: filters.shape[1]])


def can_start_at_zero(model: nn.Module) -> bool:
    """Whether `kaiming(model, zero_init=True)` is possible: residual blocks, a norm in each branch."""
    last = _last_norms(model)
    return bool(last) and None not in last.values()


def _last_norms(model: nn.Module) -> dict[str, nn.Module | None]:
    """The last norm with weights in the branch of each Residual, by the block's name."""
    last: dict[str, nn.Module | None] = {}
    for name, block in model.named_modules():
        if isinstance(block, Residual):
            norms = [part for part in block.branch.modules() if isinstance(part, _NORMS)]
            last[name] = next((norm for norm in reversed(norms) if norm.weight is not None), None)
    return last


def _fill(norm: nn.Module, value: float) -> None:
    if isinstance(norm, _NORMS) and norm.weight is not None:
        nn.init.constant_(norm.weight, value)
