"""Activations as named functions without arguments, to be passed as `act=` to any builder.

Those that work in place do so on the fresh output of a convolution, a norm or a sum, which nothing else
reads, and their gradient needs their output alone. SiLU, hard-swish and GELU need their input for it, so for
them working in place would only hide a copy.
"""

from torch import nn


def relu() -> nn.Module:
    """ReLU, in place: (B, ...) -> (B, ...)."""
    return nn.ReLU(inplace=True)


def relu6() -> nn.Module:
    """ReLU clipped at 6, in place: (B, ...) -> (B, ...). Reference: https://arxiv.org/abs/1801.04381."""
    return nn.ReLU6(inplace=True)


def leaky() -> nn.Module:
    """Leaky ReLU with slope 0.1 below zero, in place: (B, ...) -> (B, ...)."""
    return nn.LeakyReLU(0.1, inplace=True)


def silu() -> nn.Module:
    """SiLU, x * sigmoid(x): (B, ...) -> (B, ...). Reference: https://arxiv.org/abs/1702.03118."""
    return nn.SiLU()


def hardswish() -> nn.Module:
    """Hard-swish, x * relu6(x + 3) / 6: (B, ...) -> (B, ...). Reference: https://arxiv.org/abs/1905.02244."""
    return nn.Hardswish()


def gelu() -> nn.Module:
    """GELU, x times the normal distribution function of x: (B, ...) -> (B, ...).

    Reference: https://arxiv.org/abs/1606.08415.
    """
    return nn.GELU()
