"""The residual network, by default the one behind 84 % on STL-10 in under two million parameters."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from budgetnet.layers import (
    Act,
    bottleneck,
    can_start_at_zero,
    conv_norm_act,
    head,
    kaiming,
    leaky,
    max_pool,
    require_counts,
    require_makers,
    require_rates,
    require_stages,
    rising,
    stage,
    standardise,
)


def resnet(
    classes: int,
    *,
    channels: int = 3,
    widths: Sequence[int] = (120, 240, 384),
    blocks: Sequence[int] = (4, 9, 8),
    stem: int = 64,
    stem_kernel: int = 4,
    stem_stride: int = 1,
    stem_pool: bool = True,
    block: Callable[..., nn.Module] = bottleneck,
    act: Act = leaky,
    zero_init: bool | None = None,
    drop: float = 0.0,
    dropout: float = 0.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Sequential:
    """A residual network: standardise, stem, one stage of blocks for each width, head.

    (B, channels, H, W) floats in [0, 1] -> (B, classes) logits. The stem is one convolution to `stem`
    channels of stride `stem_stride`, padded to keep the resolution where its kernel is odd and not padded
    where it is even, and halves it with a max pool if `stem_pool`; every stage after the first halves it
    again, rounded up. `block` is any builder (inputs, outputs, *, stride, act); `drop` is the rate of
    stochastic depth of the last block, rising to it linearly from the first, and then the block must take
    drop too; `dropout` is the rate before the linear layer; `mean` and `std` are pixel statistics in [0, 1],
    the training split's if left out. Each block starts as its shortcut (see `layers.kaiming`), where its kind
    allows that, unless `zero_init=False`. The defaults have 1,996,986 parameters with 10 classes.

    Raises ValueError for counts below 1, a number of blocks that is not that of widths, rates outside [0, 1),
    and whatever the block refuses. Reference: https://arxiv.org/abs/1512.03385.

    >>> from budgetnet.layers import basic
    >>> digits = resnet(10, channels=1, widths=(16, 32), blocks=(2, 2), block=basic, stem=16, stem_kernel=3,
    ...                 stem_pool=False)
    >>> sum(parameter.numel() for parameter in digits.parameters())
    42938
    """
    name = "resnet"
    require_counts(name, classes=classes, channels=channels, stem=stem)
    require_counts(name, stem_kernel=stem_kernel, stem_stride=stem_stride)
    require_stages(name, widths=widths, blocks=blocks)
    require_makers(name, block=block, act=act)
    require_rates(name, drop=drop, dropout=dropout)
    padding = (stem_kernel - 1) // 2 if stem_kernel % 2 else 0
    entry = conv_norm_act(channels, stem, stem_kernel, stride=stem_stride, padding=padding, act=act)
    if stem_pool:
        entry.add_module("pool", max_pool(2))
    stages = nn.Sequential()
    inputs = stem
    for index, (outputs, depth, rates) in enumerate(zip(widths, blocks, rising(drop, blocks))):
        stride = 1 if index == 0 else 2
        options: dict[str, Any] = {"stride": stride, "act": act, "drop": rates}
        try:
            stages.append(stage(block, inputs, outputs, depth, **options))
        except ValueError as error:
            raise ValueError(f"{name}: widths[{index}]={outputs} cannot be built: {error}") from error
        inputs = outputs
    model = nn.Sequential(
        OrderedDict(
            standardise=standardise(mean, std, channels=channels),
            stem=entry,
            stages=stages,
            head=head(inputs, classes, dropout=dropout),
        )
    )
    kaiming(model, zero_init=can_start_at_zero(model) if zero_init is None else zero_init)
    return model
