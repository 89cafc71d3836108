"""RandAugment and TrivialAugment: operations drawn for each image, grouped so that each runs once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from budgetnet.augment import draw
from budgetnet.augment.operations import WARPS, operate, warp, warp_maps
from budgetnet.augment.steps import check_channels
from budgetnet.values import colour, one_of, whole

Magnitudes = Callable[[int, int, int], Tensor]

SIGNED = (*WARPS, "Brightness", "Color", "Contrast", "Sharpness")
OPERATIONS = ("Identity", *SIGNED, "Posterize", "Solarize", "AutoContrast", "Equalize")


@dataclass(frozen=True)
class RandAugment:
    """Apply to each image some operations drawn for it, all of one magnitude.

    The operations, magnitudes and signs of `torchvision.transforms.v2.RandAugment`, drawn for each image.
    They work on whole numbers: views are rounded to 255 steps first, and what comes out is bit for bit
    torchvision's for the recolouring ones. Reference: https://arxiv.org/abs/1909.13719.

    Args:
        operations: how many for each image, one after the other.
        magnitude: which of the `bins` magnitudes, from 0.
        bins: how many magnitudes there are.
        interpolation: "nearest" as torchvision's default, or "bilinear".
        fill: what shows behind what is moved, in [0, 1]: one brightness or one per channel.
    """

    operations: int = 2
    magnitude: int = 9
    bins: int = 31
    interpolation: str = "nearest"
    fill: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        _check("RandAugment", self)
        whole("RandAugment's operations", self.operations, 0, 100)
        whole("RandAugment's magnitude", self.magnitude, 0, self.bins - 1)

    def draw(self, generator: Generator, count: int, height: int, width: int) -> tuple[list[str], Tensor]:
        """One operation for each image and its signed magnitude, float64 (count,)."""
        return _draw(generator, torch.full((count,), self.magnitude), _rand_tables(self.bins, height, width))

    def act(
        self, images: Tensor, labels: Tensor, *, classes: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """float (B, C, H, W) in [0, 1] to the same in steps of 1/255; the labels stay."""
        pixels = _whole_numbers(images)
        for _ in range(self.operations):
            names, magnitudes = self.draw(generator, len(pixels), pixels.shape[-2], pixels.shape[-1])
            pixels = apply(self, pixels, names, magnitudes)
        return pixels.float().mul_(1 / 255), labels


@dataclass(frozen=True)
class TrivialAugmentWide:
    """Apply to each image one operation, of a magnitude, both drawn for it.

    The operations, magnitudes and signs of `torchvision.transforms.v2.TrivialAugmentWide`, drawn for each
    image. They work on whole numbers: views are rounded to 255 steps first, and what comes out is bit for bit
    torchvision's for the recolouring ones. Reference: https://arxiv.org/abs/2103.10158.

    Args:
        bins: how many magnitudes there are.
        interpolation: "nearest" as torchvision's default, or "bilinear".
        fill: what shows behind what is moved, in [0, 1]: one brightness or one per channel.
    """

    bins: int = 31
    interpolation: str = "nearest"
    fill: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        _check("TrivialAugmentWide", self)

    def draw(self, generator: Generator, count: int, height: int, width: int) -> tuple[list[str], Tensor]:
        """One operation for each image and its signed magnitude, float64 (count,)."""
        places = torch.randint(self.bins, (count,), generator=generator)
        return _draw(generator, places, _trivial_tables(self.bins))

    def act(
        self, images: Tensor, labels: Tensor, *, classes: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """float (B, C, H, W) in [0, 1] to the same in steps of 1/255; the labels stay."""
        pixels = _whole_numbers(images)
        names, magnitudes = self.draw(generator, len(pixels), pixels.shape[-2], pixels.shape[-1])
        return apply(self, pixels, names, magnitudes).float().mul_(1 / 255), labels


def apply(
    step: RandAugment | TrivialAugmentWide, images: Tensor, names: list[str], magnitudes: Tensor
) -> Tensor:
    """Apply to each of the uint8 images (B, C, H, W) its own operation and magnitude."""
    check_channels(step, step.fill, images.shape[1])
    result = images.clone()
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault("warp" if name in WARPS else name, []).append(index)
    groups.pop("Identity", None)
    for name, members in groups.items():
        places = torch.tensor(members)
        chosen = draw.send(places, images.device)
        part, strength = images.index_select(0, chosen), magnitudes[places]
        if name == "warp":
            maps = warp_maps([names[index] for index in members], strength, *images.shape[-2:])
            part = warp(part, maps, step.interpolation, step.fill)
        else:
            part = operate(name, part, strength)
        result.index_copy_(0, chosen, part)
    return result


def _draw(generator: Generator, places: Tensor, tables: dict[str, Tensor]) -> tuple[list[str], Tensor]:
    count = len(places)
    chosen = torch.randint(len(OPERATIONS), (count,), generator=generator)
    negative = torch.rand(count, generator=generator) <= 0.5
    names = [OPERATIONS[index] for index in chosen.tolist()]
    signed = torch.tensor([name in SIGNED for name in OPERATIONS])[chosen]
    none = torch.zeros_like(tables["Rotate"])
    magnitudes = torch.stack([tables.get(name, none) for name in OPERATIONS])[chosen, places]
    return names, torch.where(negative & signed, -magnitudes, magnitudes)


def _rand_tables(bins: int, height: int, width: int) -> dict[str, Tensor]:
    shift = {"TranslateX": 150.0 / 331.0 * width, "TranslateY": 150.0 / 331.0 * height}
    reach = {"ShearX": 0.3, "ShearY": 0.3, **shift, "Rotate": 30.0}
    return _tables(bins, {**dict.fromkeys(SIGNED, 0.9), **reach}, bits=4)


def _trivial_tables(bins: int) -> dict[str, Tensor]:
    reach = {"TranslateX": 32.0, "TranslateY": 32.0, "Rotate": 135.0}
    return _tables(bins, {**dict.fromkeys(SIGNED, 0.99), **reach}, bits=6)


def _tables(bins: int, reach: dict[str, float], bits: int) -> dict[str, Tensor]:
    """The magnitudes of each operation that has any; (bins,) each, float64 of torchvision's float32."""
    tables = {name: torch.linspace(0.0, end, bins) for name, end in reach.items()}
    tables["Posterize"] = (8 - (torch.arange(bins) / ((bins - 1) / bits))).round()
    tables["Solarize"] = torch.linspace(1.0, 0.0, bins)
    return {name: table.double() for name, table in tables.items()}


def _whole_numbers(images: Tensor) -> Tensor:
    return images.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def _check(name: str, step: RandAugment | TrivialAugmentWide) -> None:
    whole(f"{name}'s bins", step.bins, 2, 10_000)
    one_of(f"{name}'s interpolation", step.interpolation, ("nearest", "bilinear"))
    object.__setattr__(step, "fill", colour(f"{name}'s fill", step.fill))
