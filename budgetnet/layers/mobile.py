"""Blocks of networks for small devices: squeeze-and-excite and the inverted residual."""

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from budgetnet.layers.activations import relu, relu6
from budgetnet.layers.arguments import (
    Act,
    Norm,
    require_counts,
    require_makers,
    require_positive,
    require_rates,
)
from budgetnet.layers.convolution import conv_norm_act, require_odd_kernel
from budgetnet.layers.residual import Residual


def squeeze_excite(
    channels: int, *, reduction: int = 4, act: Act = relu, gate: Act = nn.Sigmoid
) -> "SqueezeExcite":
    """Weigh every channel by a number between 0 and 1 that is computed from the means of all channels.

    (B, channels, H, W) -> (B, channels, H, W). The means pass through channels / reduction hidden values,
    rounded down and at least one, with `act` behind the first of the two 1x1 convolutions and `gate` behind
    the second. Raises ValueError for counts below 1. Reference: https://arxiv.org/abs/1709.01507.
    """
    require_counts("squeeze_excite", channels=channels, reduction=reduction)
    require_makers("squeeze_excite", act=act, gate=gate)
    hidden = max(1, channels // reduction)
    return SqueezeExcite(
        nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                reduce=nn.Conv2d(channels, hidden, 1),
                act=act(),
                expand=nn.Conv2d(hidden, channels, 1),
                gate=gate(),
            )
        )
    )


class SqueezeExcite(nn.Module):
    """The product of the input and the (B, channels, 1, 1) weights that `weigh` makes of it."""

    def __init__(self, weigh: nn.Module) -> None:
        super().__init__()
        self.weigh = weigh

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, channels, H, W)."""
        out: Tensor = x * self.weigh(x)
        return out


def inverted_residual(
    inputs: int,
    outputs: int,
    *,
    stride: int = 1,
    expand: float = 6,
    kernel: int = 3,
    squeeze: Callable[[int], nn.Module] | None = None,
    norm: Norm | None = nn.BatchNorm2d,
    act: Act | None = relu6,
    drop: float = 0.0,
) -> nn.Module:
    """A 1x1 convolution to inputs * expand channels, a depthwise one with the stride, and a linear 1x1.

    (B, inputs, H, W) -> (B, outputs, H/stride, W/stride), rounded up; the input is added where the shape
    stays, and only there can `drop`, the rate of stochastic depth, act. Expand 1 leaves the first convolution
    out. `squeeze` is a function from the expanded channels to a module behind the depthwise convolution:
    `squeeze_excite` makes the block of MobileNetV3, and `partial(squeeze_excite, reduction=4 * expand,
    act=silu)` with `act=silu` that of EfficientNet.

    Raises ValueError for counts below 1, an even kernel and a rate outside [0, 1). Reference:
    https://arxiv.org/abs/1801.04381, https://arxiv.org/abs/1905.02244, https://arxiv.org/abs/1905.11946.
    """
    name = "inverted_residual"
    require_counts(name, inputs=inputs, outputs=outputs, stride=stride)
    require_positive(name, expand=expand)
    require_odd_kernel(name, kernel)
    require_makers(name, optional=True, squeeze=squeeze, norm=norm, act=act)
    require_rates(name, drop=drop)
    hidden = max(1, round(inputs * expand))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if hidden != inputs:
        layers["expand"] = conv_norm_act(inputs, hidden, 1, norm=norm, act=act)
    layers["depthwise"] = conv_norm_act(
        hidden, hidden, kernel, stride=stride, groups=hidden, norm=norm, act=act
    )
    if squeeze is not None:
        layers["squeeze"] = squeeze(hidden)
    layers["project"] = conv_norm_act(hidden, outputs, 1, norm=norm, act=None)
    branch = nn.Sequential(layers)
    return Residual(branch, drop=drop) if stride == 1 and inputs == outputs else branch
