"""The plain deep networks of VGG: 3x3 convolutions, max pools, a head that reads larger images densely."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Unpack

from torch import nn

from budgetnet.layers import (
    Pixels,
    conv_norm_act,
    dense_head,
    kaiming,
    max_pool,
    require_counts,
    require_rates,
    require_stages,
)
from budgetnet.models.entry import entry, noted
from budgetnet.values import one_of

# The kernels of each stage's convolutions, from the paper's table 1.
_CONFIGURATIONS = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3),) * 5,
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
_DIVIDED = 2**5


@noted
def vgg(
    classes: int,
    *,
    configuration: str = "B",
    resolution: int = 224,
    widths: Sequence[int] = (64, 128, 256, 512, 512),
    hidden: int = 4096,
    dropout: float = 0.5,
    batch_norm: bool = False,
    channels: int = 3,
    **pixels: Unpack[Pixels],
) -> nn.Sequential:
    """VGG in the paper's configurations A to E, of 11, 13, 16, 16 and 19 layers (C has 1x1 convolutions).

    (B, channels, H, W) floats in [0, 1] -> (B, classes) logits. Five stages, each ending in a max pool, have
    `widths` channels; then come two linear layers of `hidden` features, each followed by dropout, and one to
    the logits. They are built for images of `resolution` pixels, with which the first of them grows; larger
    images are read densely and the logits averaged (`layers.dense_head`), smaller ones refused. `batch_norm`
    puts a norm after each convolution, in place of its bias; `mean` and `std` are pixel statistics in [0, 1],
    the training split's if left out.

    The parts are called stages.S.K, stage and position counted from 0, and head.first, head.second and
    head.linear, so that `inherit` finds what two configurations share. Weights start as Kaiming's, those of
    the last layer with a standard deviation of 0.01, and biases at 0; with its one fixed deviation the paper
    needed a trained A for its deep configurations to begin with. The defaults have 128,991,818 parameters
    with 10 classes, and at 128 pixels 59,785,802.

    Raises ValueError for another configuration, a resolution below 32, widths that are not five, counts below
    1 and a rate outside [0, 1). Reference: https://arxiv.org/abs/1409.1556.

    A deeper network that begins, as in the paper, with the first four convolutions and the three linear
    layers of a trained A:

    >>> from budgetnet.models import inherit
    >>> small = {"widths": (4, 8, 16, 16, 16), "hidden": 32, "resolution": 64}
    >>> trained = vgg(10, configuration="A", **small)
    >>> first_four = ("stages.0.0", "stages.1.0", "stages.2.0", "stages.2.1")
    >>> len(inherit(vgg(10, configuration="D", **small), trained, (*first_four, "head")))
    14
    """
    name = "vgg"
    require_counts(name, classes=classes, channels=channels, resolution=resolution, hidden=hidden)
    require_stages(name, widths=widths)
    require_rates(name, dropout=dropout)
    kernels = _kernels(name, configuration, resolution, len(widths))
    stages = nn.Sequential()
    inputs = channels
    for outputs, convolutions in zip(widths, kernels):
        stages.append(_stage(inputs, outputs, convolutions, batch_norm))
        inputs = outputs
    size = resolution // _DIVIDED
    model = nn.Sequential(
        OrderedDict(
            standardise=entry(vgg, channels, pixels),
            stages=stages,
            head=dense_head(inputs, classes, size=size, hidden=hidden, dropout=dropout),
        )
    )
    _start(model)
    return model


def _kernels(name: str, configuration: str, resolution: int, widths: int) -> tuple[tuple[int, ...], ...]:
    """The kernels of each stage, where there is a width for each and a map is left after all of them."""
    one_of(f"{name}: configuration", configuration, list(_CONFIGURATIONS))
    kernels = _CONFIGURATIONS[configuration]
    if widths != len(kernels):
        raise ValueError(f"{name}: widths should be {len(kernels)} numbers, one for each stage, not {widths}")
    if resolution < _DIVIDED:
        raise ValueError(
            f"{name}: resolution should be at least {_DIVIDED}, since {len(kernels)} max pools divide it by "
            f"{_DIVIDED}, not {resolution}"
        )
    return kernels


def _stage(inputs: int, outputs: int, kernels: Sequence[int], batch_norm: bool) -> nn.Sequential:
    norm = nn.BatchNorm2d if batch_norm else None
    layers = nn.Sequential()
    for kernel in kernels:
        layers.append(conv_norm_act(inputs, outputs, kernel, norm=norm))
        inputs = outputs
    layers.add_module("pool", max_pool(2))
    return layers


def _start(model: nn.Sequential) -> None:
    kaiming(model)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for module in linear:
        nn.init.zeros_(module.bias)
        if module.weight.is_meta:
            continue
        if module is linear[-1]:
            nn.init.normal_(module.weight, std=0.01)
        else:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
