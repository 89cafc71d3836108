"""How parameters are drawn, on the CPU so that every device gets the same ones, and sent to the device."""

import math

import torch
from torch import Generator, Tensor


def uniform(generator: Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Numbers of `shape` in [low, high), drawn in float32 and handed over in float64 for the sums to come."""
    return torch.rand(shape, generator=generator).double().mul_(high - low).add_(low)


def chance(generator: Generator, count: int, p: float) -> Tensor:
    """(count,) of truth values, each True with probability `p`."""
    return torch.rand(count, generator=generator) < p


def below(generator: Generator, limits: Tensor) -> Tensor:
    """One whole number in [0, limit) for each of the int64 `limits`, each equally likely; same shape."""
    return (torch.rand(limits.shape, generator=generator).double() * limits).long()


def send(values: Tensor, device: torch.device) -> Tensor:
    """`values` on `device`, without waiting for what the device has still to do."""
    # From ordinary memory CUDA may first wait for its stream.
    pinned = values.pin_memory() if device.type == "cuda" else values
    return pinned.to(device, non_blocking=True)


def areas_and_ratios(
    generator: Generator, count: int, area: float, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Ten tries (count, 10) at a box: its area in square pixels, and an aspect ratio even in its logarithm.

    The draw that `torchvision.transforms.v2.RandomResizedCrop` and `RandomErasing` share.
    """
    areas = area * uniform(generator, (count, 10), *scale)
    ratios = uniform(generator, (count, 10), math.log(ratio[0]), math.log(ratio[1])).exp_()
    return areas, ratios


def first_valid(valid: Tensor, *tries: Tensor) -> tuple[Tensor, ...]:
    """For each row of `valid` (count, tries), the entry of each of `tries` at the row's first True.

    Where none is True it is the first entry: append a last resort that is always valid.
    """
    first = valid.int().argmax(dim=1, keepdim=True)
    return tuple(values.gather(1, first).squeeze(1) for values in tries)
