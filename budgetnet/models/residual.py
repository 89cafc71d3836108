"""The residual network, by default the one behind 84 % on STL-10 in under two million parameters."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from torch import nn

from budgetnet.layers import (
    Act,
    Pixels,
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
)
from budgetnet.models.entry import entry, noted


class Options(Pixels, total=False):
    """What of `resnet` is seldom given: its stem but for its width, how it starts, statistics of pixels."""

    stem_kernel: int
    stem_stride: int
    stem_pool: bool
    zero_init: bool | None


@noted
def resnet(
    classes: int,
    *,
    channels: int = 3,
    widths: Sequence[int] = (120, 240, 384),
    blocks: Sequence[int] = (4, 9, 8),
    stem: int = 64,
    block: Callable[..., nn.Module] = bottleneck,
    act: Act = leaky,
    drop: float = 0.0,
    dropout: float = 0.0,
    **options: Unpack[Options],
) -> nn.Sequential:
    """A residual network: standardise, stem, one stage of blocks for each width, head.

    (B, channels, H, W) floats in [0, 1] -> (B, classes) logits. The stem is one convolution to `stem`
    channels of kernel `stem_kernel` (4) and stride `stem_stride` (1), padded to keep the resolution where the
    kernel is odd and not padded where it is even, and a max pool that halves it unless `stem_pool=False`;
    every stage after the first halves it again, rounded up. `block` is any builder (inputs, outputs, *,
    stride, act); `drop` is the rate of stochastic depth of the last block, rising to it linearly from the
    first, and then the block must take drop too; `dropout` is the rate before the linear layer; `mean` and
    `std` are pixel statistics in [0, 1], the training split's if left out. Each block starts as its shortcut
    (see `layers.kaiming`), where its kind allows that, unless `zero_init=False`. The defaults have 1,996,986
    parameters with 10 classes.

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
    require_stages(name, widths=widths, blocks=blocks)
    require_makers(name, block=block, act=act)
    require_rates(name, drop=drop, dropout=dropout)
    zero_init, planes = options.pop("zero_init", None), [stem, *widths]
    first = _stem(channels, stem, act, options)
    model = nn.Sequential(
        OrderedDict(
            standardise=entry(resnet, channels, options, Options),
            stem=first,
            stages=_stages(block, planes, blocks, act, drop),
            head=head(planes[-1], classes, dropout=dropout),
        )
    )
    kaiming(model, zero_init=can_start_at_zero(model) if zero_init is None else zero_init)
    return model


def _stem(inputs: int, outputs: int, act: Act, options: Options) -> nn.Sequential:
    """The stem that `options` ask for, which are taken out of them."""
    kernel, stride = options.pop("stem_kernel", 4), options.pop("stem_stride", 1)
    require_counts("resnet", stem_kernel=kernel, stem_stride=stride)
    padding = (kernel - 1) // 2 if kernel % 2 else 0
    stem = conv_norm_act(inputs, outputs, kernel, stride=stride, padding=padding, act=act)
    if options.pop("stem_pool", True):
        stem.add_module("pool", max_pool(2))
    return stem


def _stages(
    block: Callable[..., nn.Module], widths: Sequence[int], blocks: Sequence[int], act: Act, drop: float
) -> nn.Sequential:
    """A stage of `blocks` blocks from each width to the next; every one but the first halves the map."""
    stages = nn.Sequential()
    for index, (depth, rates) in enumerate(zip(blocks, rising(drop, blocks))):
        options: dict[str, Any] = {"stride": 1 if index == 0 else 2, "act": act, "drop": rates}
        try:
            stages.append(stage(block, widths[index], widths[index + 1], depth, **options))
        except ValueError as error:
            refused = f"widths[{index}]={widths[index + 1]}"
            raise ValueError(f"resnet: {refused} cannot be built: {error}") from error
    return stages
