"""Standardisation of pixels inside the model, so that its statistics travel with the weights."""

import math
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn

from budgetnet.layers.arguments import require_counts


class Pixels(TypedDict, total=False):
    """Statistics of pixels in [0, 1], one number for each channel: both of them or neither."""

    mean: Sequence[float] | None
    std: Sequence[float] | None


def standardise(
    mean: Sequence[float] | None = None, std: Sequence[float] | None = None, *, channels: int = 3
) -> "Standardise":
    """Subtract the mean of every channel and divide by its standard deviation.

    (B, channels, H, W) -> (B, channels, H, W). Pixels are floats in [0, 1], and so are the statistics, one
    number for each channel. Without them the module passes images on unchanged until `fit` is called, which
    the Trainer does once, with the statistics of the training split; given ones are never changed. Raises
    ValueError for one without the other, for a length that is not `channels`, and for a mean outside [0, 1]
    or a deviation that is not above 0.

    >>> standardise((0.5,), (0.25,), channels=1)(torch.ones(1, 1, 1, 1)).item()
    2.0
    """
    require_counts("standardise", channels=channels)
    if (mean is None) != (std is None):
        given, missing = ("std", "mean") if mean is None else ("mean", "std")
        raise ValueError(f"standardise: {given} was given without {missing}; give both of them or neither")
    module = Standardise(channels)
    if mean is not None and std is not None:
        module._set("standardise", mean, std)
    return module


class Standardise(nn.Module):
    """(x - mean) / std, with buffers `mean` and `std` of shape (C, 1, 1), and `fitted`, true once set."""

    mean: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))
        # A bool and not a byte: averaging weights, buffers included, may round a byte of 1 down to 0.
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the statistics, in [0, 1], one for each channel, for good.

        Raises ValueError if they are set already, since weights that learnt with other statistics would
        silently see other images, and for numbers that `standardise` refuses.
        """
        if self.fitted:
            raise ValueError(
                "Standardise.fit: the statistics are set already, at "
                f"mean {[round(value, 4) for value in self.mean.flatten().tolist()]}; "
                "ask `.fitted` first, or build the model anew without mean and std"
            )
        self._set("Standardise.fit", mean, std)

    def _set(self, caller: str, mean: Sequence[float], std: Sequence[float]) -> None:
        means, stds = [float(value) for value in mean], [float(value) for value in std]
        channels = self.mean.shape[0]
        for name, values in (("mean", means), ("std", stds)):
            if len(values) != channels:
                raise ValueError(
                    f"{caller}: {name} should have one number for each of {channels} channels, "
                    f"not {len(values)}"
                )
        if not all(0 <= value <= 1 for value in means):
            raise ValueError(
                f"{caller}: mean should lie in [0, 1], as pixels do, not {means}; "
                "divide by 255 if these are of bytes"
            )
        if not all(0 < value < math.inf for value in stds):
            raise ValueError(
                f"{caller}: std should be finite and above 0, not {stds}; "
                "a channel at 0 is the same in every pixel and is better left out"
            )
        # Shaped by copy_ and not by assignment, so that device and dtype stay what the user made them.
        self.mean.copy_(torch.tensor(means, device=self.mean.device).view(-1, 1, 1))
        self.std.copy_(torch.tensor(stds, device=self.std.device).view(-1, 1, 1))
        self.fitted.fill_(True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) floats in [0, 1] -> (B, C, H, W); ValueError for bytes and other channel counts."""
        if not x.is_floating_point():
            raise ValueError(
                f"Standardise: images should be floats in [0, 1], not {x.dtype}; divide bytes by 255"
            )
        # One channel would broadcast against three without a word.
        if x.ndim < 3 or x.shape[-3] != self.mean.shape[0]:
            sides = ", ".join(
                [str(side) for side in x.shape]
            )  # which TorchScript reads, as it does no tuple()
            raise ValueError(
                f"Standardise: images should be (B, {self.mean.shape[0]}, H, W), not ({sides}); "
                "build the model with the `channels` of the data"
            )
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """What `print` shows between the brackets."""
        return f"channels={self.mean.shape[0]}"
