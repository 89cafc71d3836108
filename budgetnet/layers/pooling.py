"""Pooling, and the head that ends a classifier."""

from collections import OrderedDict

from torch import nn

from budgetnet.layers.activations import relu
from budgetnet.layers.arguments import Act, require_counts, require_makers, require_rates


def max_pool(size: int = 2, *, stride: int | None = None, padding: int = 0) -> nn.Module:
    """The largest value of every window of size x size pixels, at a stride of `size` unless it is given.

    (B, C, H, W) -> (B, C, H/stride, W/stride), rounded down without padding. Raises ValueError for counts
    below 1 and a padding above half the size.
    """
    stride = size if stride is None else stride
    _require_window("max_pool", size, stride, padding)
    return nn.MaxPool2d(size, stride, padding)


def avg_pool(size: int = 2, *, stride: int | None = None, padding: int = 0) -> nn.Module:
    """The mean of every window of size x size pixels, at a stride of `size` unless it is given.

    (B, C, H, W) -> (B, C, H/stride, W/stride), rounded down without padding; padding counts as zeros. Raises
    ValueError for counts below 1 and a padding above half the size.
    """
    stride = size if stride is None else stride
    _require_window("avg_pool", size, stride, padding)
    return nn.AvgPool2d(size, stride, padding)


def global_pool() -> nn.Sequential:
    """The mean of every channel over all pixels, flattened: (B, C, H, W) -> (B, C).

    Reference: https://arxiv.org/abs/1312.4400.
    """
    return nn.Sequential(OrderedDict(mean=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()))


def head(
    inputs: int, classes: int, *, dropout: float = 0.0, hidden: int | None = None, act: Act | None = relu
) -> nn.Sequential:
    """Global average pool, dropout where its rate is above 0, and a linear layer to the logits.

    (B, inputs, H, W) -> (B, classes), at any resolution. With `hidden`, a linear layer to so many features
    and an activation come before the last one; without an activation the two could be one, which the ledger
    notes. The children are called pool, dropout, hidden, act and linear. Raises ValueError for counts below 1
    and a rate outside [0, 1).
    """
    require_counts("head", inputs=inputs, classes=classes)
    require_rates("head", dropout=dropout)
    require_makers("head", optional=True, act=act)
    layers: OrderedDict[str, nn.Module] = OrderedDict(pool=global_pool())
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    if hidden is not None:
        require_counts("head", hidden=hidden)
        layers["hidden"] = nn.Linear(inputs, hidden)
        if act is not None:
            layers["act"] = act()
        inputs = hidden
    layers["linear"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


def _require_window(builder: str, size: int, stride: int, padding: int) -> None:
    require_counts(builder, size=size, stride=stride)
    require_counts(builder, least=0, padding=padding)
    if padding > size // 2:
        raise ValueError(
            f"{builder}: padding should be at most half the size, {size // 2} of {size}, not {padding}"
        )
