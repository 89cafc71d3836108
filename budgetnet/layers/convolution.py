"""Convolutions with their norm and activation: the plain one, the depthwise separable one, the large stem."""

from collections import OrderedDict

from torch import nn

from budgetnet.layers.activations import relu
from budgetnet.layers.arguments import Act, Norm, require_counts, require_makers, require_multiple
from budgetnet.layers.pooling import max_pool


def conv_norm_act(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    dilation: int = 1,
    norm: Norm | None = nn.BatchNorm2d,
    act: Act | None = relu,
) -> nn.Sequential:
    """Convolution, then norm, then activation, any of the last two left out by None.

    (B, inputs, H, W) -> (B, outputs, H/stride, W/stride), rounded up, with the default padding, which is
    'same': dilation * (kernel - 1) // 2 pixels on each side. An even kernel has no such padding at stride 1
    and needs its `padding` said; at stride 2 it halves, rounded down. The convolution has a bias only where
    there is no norm. The children are called conv, norm and act.

    Raises ValueError for counts below 1, groups that do not divide both channel counts, and the even kernel.

    >>> conv_norm_act(3, 64, 4, padding=0).conv
    Conv2d(3, 64, kernel_size=(4, 4), stride=(1, 1), bias=False)
    """
    name = "conv_norm_act"
    require_counts(
        name, inputs=inputs, outputs=outputs, kernel=kernel, stride=stride, groups=groups, dilation=dilation
    )
    require_multiple(name, "inputs", inputs, "groups", groups)
    require_multiple(name, "outputs", outputs, "groups", groups)
    require_makers(name, optional=True, norm=norm, act=act)
    reach = dilation * (kernel - 1)
    if padding is None:
        if reach % 2 and stride == 1:
            raise ValueError(
                f"{name}: kernel should be odd to keep the resolution at stride 1, not {kernel}; "
                f"say padding, or take kernel {kernel - 1} or {kernel + 1}"
            )
        padding = reach // 2
    require_counts(name, least=0, padding=padding)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=norm is None)
    return _finished(conv, norm, act)


def depthwise_separable(
    inputs: int,
    outputs: int,
    *,
    stride: int = 1,
    kernel: int = 3,
    norm: Norm | None = nn.BatchNorm2d,
    act: Act | None = relu,
) -> nn.Sequential:
    """A depthwise convolution, one filter for each channel, then a 1x1 convolution across channels.

    (B, inputs, H, W) -> (B, outputs, H/stride, W/stride), rounded up. Both are followed by norm and
    activation; the children are called depthwise and pointwise. Raises ValueError for counts below 1 and an
    even kernel. Reference: https://arxiv.org/abs/1704.04861.
    """
    name = "depthwise_separable"
    require_counts(name, inputs=inputs, outputs=outputs, stride=stride)
    require_odd_kernel(name, kernel)
    require_makers(name, optional=True, norm=norm, act=act)
    return nn.Sequential(
        OrderedDict(
            depthwise=conv_norm_act(inputs, inputs, kernel, stride=stride, groups=inputs, norm=norm, act=act),
            pointwise=conv_norm_act(inputs, outputs, 1, norm=norm, act=act),
        )
    )


def stem(
    inputs: int,
    outputs: int,
    *,
    padding: int = 3,
    bias: bool = False,
    pool: int = 3,
    norm: Norm | None = nn.BatchNorm2d,
    act: Act | None = relu,
) -> nn.Sequential:
    """The entry of the large residual networks: a 7x7 convolution at stride 2, norm, act, and a max pool.

    (B, inputs, H, W) -> (B, outputs, H/4, W/4), rounded up. The max pool has windows of pool x pool pixels
    at stride 2, padded so that an odd `pool` rounds up and an even one down; with a `padding` above 3 the
    convolution does not halve the map, which the ledger notes. `bias` gives it one although a norm follows.
    Raises ValueError for counts below 1 and a padding below 0. Reference: https://arxiv.org/abs/1512.03385.

    >>> stem(3, 64, padding=5, bias=True, pool=2).conv
    Conv2d(3, 64, kernel_size=(7, 7), stride=(2, 2), padding=(5, 5))
    """
    name = "stem"
    require_counts(name, inputs=inputs, outputs=outputs, pool=pool)
    require_counts(name, least=0, padding=padding)
    require_makers(name, optional=True, norm=norm, act=act)
    conv = nn.Conv2d(inputs, outputs, 7, stride=2, padding=padding, bias=bias or norm is None)
    entry = _finished(conv, norm, act)
    entry.add_module("pool", max_pool(pool, stride=2, padding=(pool - 1) // 2))
    return entry


def _finished(conv: nn.Conv2d, norm: Norm | None, act: Act | None) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
    if norm is not None:
        layers["norm"] = norm(conv.out_channels)
    if act is not None:
        layers["act"] = act()
    return nn.Sequential(layers)


def require_odd_kernel(builder: str, kernel: int) -> None:
    """Refuse a kernel that cannot be padded alike on both sides, with a ValueError."""
    require_counts(builder, kernel=kernel)
    if kernel % 2 == 0:
        raise ValueError(
            f"{builder}: kernel should be odd, not {kernel}; {kernel - 1} or {kernel + 1} would do"
        )
