"""Residual blocks, and the stage that repeats a block."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from budgetnet.layers.activations import relu
from budgetnet.layers.arguments import (
    Act,
    Norm,
    require_counts,
    require_makers,
    require_multiple,
    require_rates,
)
from budgetnet.layers.convolution import conv_norm_act
from budgetnet.layers.noise import stochastic_depth


class Residual(nn.Module):
    """The sum of a branch and a shortcut, then an activation.

    (B, inputs, H, W) -> (B, outputs, H/stride, W/stride), as both of them give. `shortcut` None is the input
    itself, `act` None leaves the sum as it is, and `drop` in [0, 1) is the rate of stochastic depth on the
    branch. The input is read twice, so the branch must not begin with an activation in place. Raises
    ValueError for a rate outside [0, 1). Reference: https://arxiv.org/abs/1512.03385.
    """

    def __init__(
        self, branch: nn.Module, shortcut: nn.Module | None = None, act: Act | None = None, drop: float = 0.0
    ) -> None:
        super().__init__()
        require_rates("Residual", drop=drop)
        require_makers("Residual", optional=True, act=act)
        self.branch = branch
        self.drop = stochastic_depth(drop) if drop else nn.Identity()
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.act = nn.Identity() if act is None else act()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)."""
        out: Tensor = self.act(self.drop(self.branch(x)) + self.shortcut(x))
        return out


def basic(
    inputs: int,
    outputs: int,
    *,
    stride: int = 1,
    norm: Norm | None = nn.BatchNorm2d,
    act: Act | None = relu,
    drop: float = 0.0,
) -> Residual:
    """The residual block of two 3x3 convolutions, the first with the stride.

    (B, inputs, H, W) -> (B, outputs, H/stride, W/stride), rounded up. The shortcut is a 1x1 convolution with
    norm where the shape changes and the input itself elsewhere; the activation follows the sum; `drop` is the
    rate of stochastic depth. Raises ValueError for counts below 1 and a rate outside [0, 1). Reference:
    https://arxiv.org/abs/1512.03385.
    """
    name = "basic"
    require_counts(name, inputs=inputs, outputs=outputs, stride=stride)
    require_makers(name, optional=True, norm=norm, act=act)
    require_rates(name, drop=drop)
    branch = nn.Sequential(
        OrderedDict(
            first=conv_norm_act(inputs, outputs, 3, stride=stride, norm=norm, act=act),
            second=conv_norm_act(outputs, outputs, 3, norm=norm, act=None),
        )
    )
    return Residual(branch, _projection(inputs, outputs, stride, norm), act, drop)


def bottleneck(
    inputs: int,
    outputs: int,
    *,
    stride: int = 1,
    expansion: int = 4,
    groups: int = 1,
    width: int | None = None,
    norm: Norm | None = nn.BatchNorm2d,
    act: Act | None = relu,
    drop: float = 0.0,
) -> Residual:
    """The residual block of a 1x1 convolution to `width` channels, a 3x3 with the stride, and a 1x1.

    (B, inputs, H, W) -> (B, outputs, H/stride, W/stride), rounded up. The width is outputs / expansion unless
    it is given; `groups` are those of the 3x3 convolution, so that expansion 2 and groups 32 make ResNeXt's
    32x4d. The shortcut is a 1x1 convolution with norm where the shape changes and the input itself elsewhere;
    the activation follows the sum; `drop` is the rate of stochastic depth.

    Raises ValueError for counts below 1, outputs that expansion does not divide, a width that groups do not
    divide and a rate outside [0, 1). Reference: https://arxiv.org/abs/1512.03385,
    https://arxiv.org/abs/1611.05431.

    >>> sum(parameter.numel() for parameter in bottleneck(120, 240, stride=2).parameters())
    84000
    """
    name = "bottleneck"
    require_counts(name, inputs=inputs, outputs=outputs, stride=stride, expansion=expansion, groups=groups)
    if width is None:
        require_multiple(name, "outputs", outputs, "expansion", expansion)
        width = outputs // expansion
        named = f"width (outputs={outputs} / expansion={expansion})"
    else:
        require_counts(name, width=width)
        named = "width"
    require_multiple(name, named, width, "groups", groups)
    require_makers(name, optional=True, norm=norm, act=act)
    require_rates(name, drop=drop)
    branch = nn.Sequential(
        OrderedDict(
            reduce=conv_norm_act(inputs, width, 1, norm=norm, act=act),
            spatial=conv_norm_act(width, width, 3, stride=stride, groups=groups, norm=norm, act=act),
            expand=conv_norm_act(width, outputs, 1, norm=norm, act=None),
        )
    )
    return Residual(branch, _projection(inputs, outputs, stride, norm), act, drop)


def stage(
    block: Callable[..., nn.Module],
    inputs: int,
    outputs: int,
    blocks: int,
    *,
    stride: int = 1,
    drop: float | Sequence[float] = 0.0,
    **options: Any,
) -> nn.Sequential:
    """`blocks` blocks in a row, the first of them with the stride and the change of channels.

    (B, inputs, H, W) -> (B, outputs, H/stride, W/stride). `block` is any builder (inputs, outputs, *, stride)
    and is given the options; `drop` is one rate of stochastic depth for all, or one for each, and is only
    handed on where it is above 0. Raises ValueError for counts below 1 and rates that do not match the
    blocks.

    >>> len(stage(basic, 16, 32, 3, stride=2))
    3
    """
    name = "stage"
    require_counts(name, inputs=inputs, outputs=outputs, blocks=blocks, stride=stride)
    require_makers(name, block=block)
    rates = tuple(drop) if isinstance(drop, Sequence) else (drop,) * blocks
    if len(rates) != blocks:
        raise ValueError(
            f"{name}: drop should be one rate or one for each of the {blocks} blocks, not {len(rates)} rates"
        )
    require_rates(name, **{f"drop[{index}]": rate for index, rate in enumerate(rates)})
    layers = []
    for index, rate in enumerate(rates):
        dropped = {"drop": rate} if rate else {}
        if index == 0:
            layers.append(block(inputs, outputs, stride=stride, **dropped, **options))
        else:
            layers.append(block(outputs, outputs, **dropped, **options))
    return nn.Sequential(*layers)


def _projection(inputs: int, outputs: int, stride: int, norm: Norm | None) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return conv_norm_act(inputs, outputs, 1, stride=stride, norm=norm, act=None)
