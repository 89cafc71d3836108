"""A small network of plain convolutions, to begin with."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Unpack

from torch import nn

from budgetnet.layers import (
    Act,
    Pixels,
    conv_norm_act,
    head,
    kaiming,
    max_pool,
    relu,
    require_counts,
    require_makers,
    require_rates,
    require_stages,
    stage,
)
from budgetnet.models.entry import entry, noted


@noted
def convnet(
    classes: int,
    *,
    channels: int = 3,
    widths: Sequence[int] = (32, 64, 128),
    act: Act = relu,
    dropout: float = 0.0,
    **pixels: Unpack[Pixels],
) -> nn.Sequential:
    """Two 3x3 convolutions for each width, a max pool between one width and the next, and a head.

    (B, channels, H, W) floats in [0, 1] -> (B, classes) logits; the resolution is halved once less than there
    are widths, rounded down. `dropout` is the rate before the linear layer; `mean` and `std` are pixel
    statistics in [0, 1], the training split's if left out. The defaults have 288,746 parameters with 10
    classes.

    Raises ValueError for counts below 1, no widths, and a rate outside [0, 1). Reference:
    https://arxiv.org/abs/1409.1556, with the norms of https://arxiv.org/abs/1502.03167.
    """
    name = "convnet"
    require_counts(name, classes=classes, channels=channels)
    require_stages(name, widths=widths)
    require_makers(name, act=act)
    require_rates(name, dropout=dropout)
    stages = nn.Sequential()
    inputs = channels
    for index, outputs in enumerate(widths):
        convs = stage(conv_norm_act, inputs, outputs, 2, act=act)
        if index < len(widths) - 1:
            convs.add_module("pool", max_pool(2))
        stages.append(convs)
        inputs = outputs
    model = nn.Sequential(
        OrderedDict(
            standardise=entry(convnet, channels, pixels),
            stages=stages,
            head=head(inputs, classes, dropout=dropout),
        )
    )
    kaiming(model)
    return model
