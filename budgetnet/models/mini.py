"""A small residual network whose every block halves the map and doubles the channels, with a wide head."""

from collections import OrderedDict
from typing import Unpack

from torch import nn

from budgetnet.layers import (
    Pixels,
    Residual,
    kaiming,
    max_pool,
    relu,
    require_counts,
    require_rates,
)
from budgetnet.models.entry import entry, noted


@noted
def mini_resnet(
    classes: int,
    *,
    resolution: int = 64,
    blocks: int = 6,
    width: int = 32,
    hidden: int = 4096,
    dropout: float = 0.0,
    channels: int = 3,
    **pixels: Unpack[Pixels],
) -> nn.Sequential:
    """Residual blocks of `width` channels, then twice as many in each, and a head of two linear layers.

    (B, channels, H, W) floats in [0, 1] -> (B, classes) logits. A block is two 3x3 convolutions with norms
    and a 1x1 convolution without as shortcut, all with biases, then ReLU and a max pool that halves the map.
    What is left of the map is flattened: the head's size follows from `resolution`, and only resolutions that
    leave a map of that size fit. `dropout` is the rate before each of the two linear layers, of which the
    first, of `hidden` features, is followed by norm and ReLU; `mean` and `std` are pixel statistics in
    [0, 1], the training split's if left out. With 200 classes the defaults have 24,604,584 parameters at 64
    pixels and 58,159,016 at 192 to 255.

    Raises ValueError for a resolution at which a block's map collapses, counts below 1 and a rate outside
    [0, 1). Reference: https://arxiv.org/abs/1512.03385 for the blocks.
    """
    name = "mini_resnet"
    require_counts(
        name,
        classes=classes,
        resolution=resolution,
        blocks=blocks,
        width=width,
        hidden=hidden,
        channels=channels,
    )
    require_rates(name, dropout=dropout)
    _require_map(name, resolution, blocks)
    stages = nn.Sequential()
    inputs = channels
    for index in range(blocks):
        outputs = width * 2**index
        stages.append(nn.Sequential(OrderedDict(block=_block(inputs, outputs), pool=max_pool(2))))
        inputs = outputs
    left = resolution // 2**blocks
    model = nn.Sequential(
        OrderedDict(
            standardise=entry(mini_resnet, channels, pixels),
            stages=stages,
            head=_head(inputs * left * left, hidden, classes, dropout),
        )
    )
    kaiming(model)
    return model


def _require_map(name: str, resolution: int, blocks: int) -> None:
    """Refuse more blocks than there are halvings of the resolution: block number `most` has a map of 1x1."""
    most = resolution.bit_length() - 1
    if blocks > most:
        fewer = f", or at most {most} blocks" if most else ""
        raise ValueError(
            f"{name}: each of {blocks} blocks halves the map, and at {resolution} pixels block stages.{most} "
            f"is given 1x1, which has no half; take a resolution of at least {2**blocks} pixels{fewer}"
        )


def _block(inputs: int, outputs: int) -> Residual:
    branch: OrderedDict[str, nn.Module] = OrderedDict(
        first=nn.Sequential(OrderedDict(**_convolution(inputs, outputs), act=relu())),
        second=nn.Sequential(_convolution(outputs, outputs)),
    )
    return Residual(nn.Sequential(branch), nn.Conv2d(inputs, outputs, 1), relu)


def _convolution(inputs: int, outputs: int) -> OrderedDict[str, nn.Module]:
    """A 3x3 convolution with a bias, although a norm follows, as the network was published."""
    return OrderedDict(conv=nn.Conv2d(inputs, outputs, 3, padding=1), norm=nn.BatchNorm2d(outputs))


def _head(inputs: int, hidden: int, classes: int, dropout: float) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["hidden"] = nn.Linear(inputs, hidden)
    layers["norm"] = nn.BatchNorm1d(hidden)
    layers["act"] = relu()
    if dropout:
        layers["last_dropout"] = nn.Dropout(dropout)
    layers["linear"] = nn.Linear(hidden, classes)
    return nn.Sequential(layers)
