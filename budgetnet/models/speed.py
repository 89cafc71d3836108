"""A small wide network that learns CIFAR-10 in very few steps."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import nn

from budgetnet.layers import (
    Pixels,
    batch_norm,
    dirac,
    gelu,
    max_pool,
    require_counts,
    require_positive,
    require_stages,
    scale,
    whiten,
)
from budgetnet.models.entry import entry, noted


@noted
def speednet(
    classes: int,
    *,
    channels: int = 3,
    widths: Sequence[int] = (64, 256, 256),
    factor: float = 1 / 9,
    momentum: float = 0.4,
    **pixels: Unpack[Pixels],
) -> nn.Sequential:
    """The network of airbench94: a whitening convolution, three groups of two convolutions, a linear head.

    (B, channels, H, W) floats in [0, 1] -> (B, classes) logits, for 25 to 48 pixels with three widths. Each
    width is a 3x3 convolution, a max pool that halves the map, norm, GELU, and another convolution, norm and
    GELU; a max pool over 3x3 pixels ends them. Convolutions start as partial identities (`layers.dirac`); the
    norms have biases only (their weights stay at 1), and replace `momentum` of their statistics a step.
    The linear layer has no bias; its logits are multiplied by `factor`, and its weights start with a
    deviation of 1 / (widths[-1] * factor), so that the network starts as the same function for any factor.
    `mean` and `std` are pixel statistics in [0, 1], the training split's if left out.

    With 10 classes the defaults have 1,972,792 parameters, as torch counts the original: 288 weights of the
    whitening and 1,152 of the norms among them, which do not learn.

    Raises ValueError for counts below 1, no widths, and a factor that is not above 0. Reference:
    https://arxiv.org/abs/2404.00498.
    """
    name = "speednet"
    require_counts(name, classes=classes, channels=channels)
    require_stages(name, widths=widths)
    require_positive(name, factor=factor)
    first = whiten(channels)
    groups = nn.Sequential()
    inputs = first.out_channels
    for outputs in widths:
        groups.append(_group(inputs, outputs, momentum))
        inputs = outputs
    dirac(groups)
    linear = nn.Linear(inputs, classes, bias=False)
    if not linear.weight.is_meta:
        with torch.no_grad():
            linear.weight.mul_(1 / (inputs * factor * linear.weight.std()))
    head = OrderedDict(pool=max_pool(3), flatten=nn.Flatten(), linear=linear, scale=scale(factor))
    return nn.Sequential(
        OrderedDict(
            standardise=entry(speednet, channels, pixels),
            whiten=first,
            act=gelu(),
            groups=groups,
            head=nn.Sequential(head),
        )
    )


def _group(inputs: int, outputs: int, momentum: float) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            pool=max_pool(2),
            norm1=batch_norm(outputs, momentum=momentum, eps=1e-12, weight=False),
            act1=gelu(),
            conv2=nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            norm2=batch_norm(outputs, momentum=momentum, eps=1e-12, weight=False),
            act2=gelu(),
        )
    )
