"""The residual networks that ImageNet made known, as torchvision has them, with a stem and head to choose."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Unpack

from torch import nn

from budgetnet.layers import (
    Pixels,
    basic,
    bottleneck,
    head,
    kaiming,
    require_counts,
    require_makers,
    stage,
    stem,
)
from budgetnet.models.entry import entry, noted


@dataclass(frozen=True)
class _Kind:
    block: Callable[..., nn.Module]
    widths: tuple[int, ...]
    blocks: tuple[int, ...]


_STEM = 64
_RESNET18 = _Kind(basic, (64, 128, 256, 512), (2, 2, 2, 2))
_RESNET34 = _Kind(basic, (64, 128, 256, 512), (3, 4, 6, 3))
_RESNEXT50 = _Kind(partial(bottleneck, expansion=2, groups=32), (256, 512, 1024, 2048), (3, 4, 6, 3))


@noted
def resnet18(
    classes: int,
    *,
    channels: int = 3,
    stem: Callable[..., nn.Module] = stem,
    head: Callable[..., nn.Module] = head,
    zero_init: bool = True,
    **pixels: Unpack[Pixels],
) -> nn.Sequential:
    """ResNet-18: standardise, stem, four stages of two basic blocks with 64 to 512 channels, head.

    (B, channels, H, W) floats in [0, 1] -> (B, classes) logits; the resolution is divided by 32, rounded up.
    `stem` and `head` are any builders (inputs, outputs) -> Module: `stem=conv_norm_act` reads small images at
    their own resolution, `head=partial(head, dropout=0.2)` adds dropout. Each block starts as its shortcut,
    unless `zero_init=False`, torchvision's default; `mean` and `std` are pixel statistics in [0, 1], the
    training split's if left out. The network is torchvision's resnet18: 11,181,642 parameters with 10
    classes.

    Raises ValueError for counts below 1 and whatever the stem and the head refuse. Reference:
    https://arxiv.org/abs/1512.03385.
    """
    return _network(resnet18, _RESNET18, classes, channels, stem, head, zero_init, pixels)


@noted
def resnet34(
    classes: int,
    *,
    channels: int = 3,
    stem: Callable[..., nn.Module] = stem,
    head: Callable[..., nn.Module] = head,
    zero_init: bool = True,
    **pixels: Unpack[Pixels],
) -> nn.Sequential:
    """ResNet-34: as `resnet18`, with 3, 4, 6 and 3 basic blocks in its stages.

    (B, channels, H, W) floats in [0, 1] -> (B, classes) logits; the arguments and what is raised are those of
    `resnet18`. The network is torchvision's resnet34: 21,289,802 parameters with 10 classes. Reference:
    https://arxiv.org/abs/1512.03385.

    A variant with a stem that does not halve the map, and two linear layers where one would do:

    >>> from budgetnet import layers
    >>> variant = resnet34(10, stem=partial(layers.stem, padding=5, bias=True, pool=2),
    ...                    head=partial(layers.head, hidden=128, act=None))
    >>> sum(parameter.numel() for parameter in variant.parameters())
    21351690
    """
    return _network(resnet34, _RESNET34, classes, channels, stem, head, zero_init, pixels)


@noted
def resnext50(
    classes: int,
    *,
    channels: int = 3,
    stem: Callable[..., nn.Module] = stem,
    head: Callable[..., nn.Module] = head,
    zero_init: bool = True,
    **pixels: Unpack[Pixels],
) -> nn.Sequential:
    """ResNeXt-50 32x4d: stages of 3, 4, 6 and 3 bottlenecks in 32 groups, with 256 to 2048 channels.

    (B, channels, H, W) floats in [0, 1] -> (B, classes) logits; the arguments and what is raised are those of
    `resnet18`. The network is torchvision's resnext50_32x4d: 23,389,704 parameters with 200 classes.
    Reference: https://arxiv.org/abs/1611.05431.
    """
    return _network(resnext50, _RESNEXT50, classes, channels, stem, head, zero_init, pixels)


def _network(
    make: Callable[..., nn.Module],
    kind: _Kind,
    classes: int,
    channels: int,
    stem: Callable[..., nn.Module],
    head: Callable[..., nn.Module],
    zero_init: bool,
    pixels: Pixels,
) -> nn.Sequential:
    require_counts(make.__name__, classes=classes, channels=channels)
    require_makers(make.__name__, stem=stem, head=head)
    first = stem(channels, _STEM)
    stages = nn.Sequential()
    inputs = _STEM
    for index, (outputs, blocks) in enumerate(zip(kind.widths, kind.blocks)):
        stages.append(stage(kind.block, inputs, outputs, blocks, stride=1 if index == 0 else 2))
        inputs = outputs
    model = nn.Sequential(
        OrderedDict(
            standardise=entry(make, channels, pixels),
            stem=first,
            stages=stages,
            head=head(inputs, classes),
        )
    )
    kaiming(model, zero_init=zero_init)
    return model
