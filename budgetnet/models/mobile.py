"""The network of inverted residuals, MobileNetV2, for small budgets of multiply-accumulates."""

from collections import OrderedDict
from typing import Unpack

from torch import nn

from budgetnet.layers import (
    Act,
    Pixels,
    conv_norm_act,
    head,
    inverted_residual,
    kaiming,
    relu6,
    require_counts,
    require_makers,
    require_positive,
    require_rates,
    rising,
    stage,
)
from budgetnet.models.entry import entry, noted

# The paper's table 2: expansion, channels, blocks and stride of every stage.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@noted
def mobilenet(
    classes: int,
    *,
    channels: int = 3,
    width: float = 1.0,
    stem_stride: int = 2,
    last: int = 1280,
    act: Act = relu6,
    drop: float = 0.0,
    dropout: float = 0.2,
    **pixels: Unpack[Pixels],
) -> nn.Sequential:
    """MobileNetV2: standardise, stem, seven stages of inverted residuals, a 1x1 convolution to `last`, head.

    (B, channels, H, W) floats in [0, 1] -> (B, classes) logits; the resolution is divided by 16 *
    stem_stride, so that 1 suits images of 32 to 96 pixels. `width` multiplies all channels, rounded to
    multiples of 8, but `last` only where it is above 1: below, `last` holds most of the parameters and is
    worth lowering. `drop` is the rate of stochastic depth of the last block, rising to it linearly; `dropout`
    is the rate before the linear layer; `mean` and `std` are pixel statistics in [0, 1], the training split's
    if left out. The defaults have 2,236,682 parameters with 10 classes, as torchvision's have.

    Raises ValueError for counts below 1, a width that is not above 0, and rates outside [0, 1). Reference:
    https://arxiv.org/abs/1801.04381.
    """
    name = "mobilenet"
    require_counts(name, classes=classes, channels=channels, stem_stride=stem_stride, last=last)
    require_positive(name, width=width)
    require_makers(name, act=act)
    require_rates(name, drop=drop, dropout=dropout)
    inputs = _scaled(32, width)
    stem = conv_norm_act(channels, inputs, 3, stride=stem_stride, act=act)
    rates = rising(drop, [blocks for _, _, blocks, _ in _STAGES])
    stages = nn.Sequential()
    for (expand, planes, blocks, stride), drops in zip(_STAGES, rates):
        outputs = _scaled(planes, width)
        stages.append(
            stage(
                inverted_residual, inputs, outputs, blocks, stride=stride, drop=drops, expand=expand, act=act
            )
        )
        inputs = outputs
    features = _scaled(last, max(1.0, width))
    model = nn.Sequential(
        OrderedDict(
            standardise=entry(mobilenet, channels, pixels),
            stem=stem,
            stages=stages,
            last=conv_norm_act(inputs, features, 1, act=act),
            head=head(features, classes, dropout=dropout),
        )
    )
    kaiming(model)
    return model


def _scaled(planes: int, width: float) -> int:
    """The multiple of 8 nearest to planes * width, at least 8, and never more than a tenth below it."""
    exact = planes * width
    nearest = max(8, int(exact + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * exact else nearest
