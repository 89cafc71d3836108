"""How parameters are drawn, on the CPU so that every device gets the same ones, and sent to the device."""

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Generator, Tensor


class Stream:
    """Numbers even in [0, 1), float32 (N,), drawn beforehand and handed out in order: on any device.

    A generator on the CPU that hands out the same numbers makes the same parameters.
    """

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        self.at = 0

    @property
    def device(self) -> torch.device:
        """Where the numbers lie."""
        return self.numbers.device

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """The next of them, as many as `shape` holds."""
        begin, self.at = self.at, self.at + math.prod(shape)
        return self.numbers[begin : self.at].view(shape)


Source: TypeAlias = Generator | Stream
"""What parameters are drawn from; they are made on its device."""


def even(source: Source, shape: tuple[int, ...]) -> Tensor:
    """float32 numbers of `shape` in [0, 1)."""
    return source.take(shape) if isinstance(source, Stream) else torch.rand(shape, generator=source)


def uniform(source: Source, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Numbers of `shape` in [low, high), drawn in float32 and handed over in float64 for the sums to come."""
    return even(source, shape).double().mul_(high - low).add_(low)


def chance(source: Source, count: int, p: float) -> Tensor:
    """(count,) of truth values, each True with probability `p`."""
    return even(source, (count,)) < p


def below(source: Source, limits: Tensor) -> Tensor:
    """One whole number in [0, limit) for each of the int64 `limits`, each equally likely; same shape."""
    return (even(source, tuple(limits.shape)).double() * limits).long()


def given(source: Source, values: Tensor, count: int) -> Tensor:
    """Truth values (count,) that were decided elsewhere; a stream has them as numbers, 0 and 1."""
    return source.take((count,)) > 0.5 if isinstance(source, Stream) else values


def product(one: Tensor, other: Tensor) -> Tensor:
    """Matrices (B, N, M) times matrices (B, M, K)."""
    if torch.compiler.is_compiling():
        # A library's call for each would cost more than these few numbers.
        return (one[:, :, :, None] * other[:, None]).sum(dim=2)
    return one @ other


def send(values: Tensor, device: torch.device) -> Tensor:
    """`values` on `device`, without waiting for what the device has still to do."""
    # From ordinary memory CUDA may first wait for its stream.
    pinned = values.pin_memory() if device.type == "cuda" and values.device.type == "cpu" else values
    return pinned.to(device, non_blocking=True)


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """The numbers (N,) as a tensor of the type and on the device of another, without waiting for it."""
    if torch.compiler.is_compiling():
        # Made by the kernel that needs them; a list would be copied to the device.
        return torch.stack([like.new_full((), value) for value in values])
    return send(torch.tensor(values, dtype=like.dtype), like.device)


def areas_and_ratios(
    source: Source, count: int, area: float, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Ten tries (count, 10) at a box: its area in square pixels, and an aspect ratio even in its logarithm.

    The draw that `torchvision.transforms.v2.RandomResizedCrop` and `RandomErasing` share.
    """
    areas = area * uniform(source, (count, 10), *scale)
    ratios = uniform(source, (count, 10), math.log(ratio[0]), math.log(ratio[1])).exp_()
    return areas, ratios


def first_valid(valid: Tensor, *tries: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """For each row of `valid` (count, tries), the entry of each of `tries` at the row's first True.

    Comes with whether there is one, (count,); where none is, the entry is the first.
    """
    first = valid.int().argmax(dim=1, keepdim=True)
    return valid.any(dim=1), tuple(values.gather(1, first).squeeze(1) for values in tries)
