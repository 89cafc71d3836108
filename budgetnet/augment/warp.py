"""Warps: steps that say, for each image, where in the image before them each point of theirs is read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from budgetnet.augment import draw
from budgetnet.augment.steps import REFLECT, Warp
from budgetnet.values import colour, number, span, whole


@dataclass(frozen=True)
class Rotate:
    """Turn each image about its middle by an angle drawn evenly from (-degrees, degrees), or from a pair.

    As `torchvision.transforms.v2.RandomRotation(degrees, "bilinear", fill=fill)`; positive is anticlockwise.

    Args:
        degrees: the largest angle either way, in [0, 360], or a pair (from, to) within [-360, 360].
        fill: what shows in the corners, in [0, 1]: one brightness or one per channel; 0.5 is mid-grey.
    """

    degrees: float | tuple[float, float] = 45
    fill: float | tuple[float, ...] = 0.0

    fused: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.degrees, tuple | list):
            object.__setattr__(self, "degrees", span("Rotate's degrees", self.degrees, -360, 360))
        else:
            number("Rotate's degrees", self.degrees, least=0, most=360)
        object.__setattr__(self, "fill", colour("Rotate's fill", self.fill))

    def maps(self, generator: draw.Source, count: int, height: int, width: int) -> Tensor:
        """(count, 3, 3) rotations; see `Warp`."""
        low, high = self.degrees if isinstance(self.degrees, tuple) else (-self.degrees, self.degrees)
        return rotations(draw.uniform(generator, (count,), low, high))


@dataclass(frozen=True)
class Crop:
    """Show a box of each image, of random area and aspect ratio, as large as the whole.

    The box is that of `torchvision.transforms.v2.RandomResizedCrop`, drawn for each image: ten tries at an
    area and a log-uniform ratio, rounded to whole pixels of the image, else the largest central box whose
    ratio is allowed. Reference: https://arxiv.org/abs/1409.4842.

    Args:
        scale: (from, to), the box's share of the area, within [0, 1].
        ratio: (from, to), width over height of the box.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    fused: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", span("Crop's scale", self.scale, 0.0, 1.0))
        object.__setattr__(self, "ratio", span("Crop's ratio", self.ratio, 0.01, 100.0))
        if self.scale[1] == 0:
            raise ValueError(f"Crop's scale should reach above 0, not {self.scale!r}: give (0.08, 1.0)")

    def boxes(self, generator: draw.Source, count: int, height: int, width: int) -> tuple[Tensor, ...]:
        """(top, left, height, width) of each image's box, int64 (count,) each, in pixels of the image."""
        areas, ratios = draw.areas_and_ratios(generator, count, height * width, self.scale, self.ratio)
        widths, heights = (areas * ratios).sqrt().round(), (areas / ratios).sqrt().round()
        valid = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        fits, (first_height, first_width) = draw.first_valid(valid, heights, widths)
        central_height, central_width = self._central(height, width)
        box_height = torch.where(fits, first_height, central_height).long()
        box_width = torch.where(fits, first_width, central_width).long()
        tops, lefts = height - box_height, width - box_width
        tops = torch.where(fits, draw.below(generator, tops + 1), tops // 2)
        lefts = torch.where(fits, draw.below(generator, lefts + 1), lefts // 2)
        return tops, lefts, box_height, box_width

    def maps(self, generator: draw.Source, count: int, height: int, width: int) -> Tensor:
        """(count, 3, 3) from the whole frame into the box; see `Warp`."""
        top, left, box_height, box_width = self.boxes(generator, count, height, width)
        maps = torch.zeros(count, 3, 3, dtype=torch.float64, device=generator.device)
        maps[:, 0, 0], maps[:, 1, 1], maps[:, 2, 2] = box_width / width, box_height / height, 1.0
        maps[:, 0, 2] = left + box_width / 2 - width / 2
        maps[:, 1, 2] = top + box_height / 2 - height / 2
        return maps

    def _central(self, height: int, width: int) -> tuple[int, int]:
        if width / height < self.ratio[0]:
            return round(width / self.ratio[0]), width
        if width / height > self.ratio[1]:
            return height, round(height * self.ratio[1])
        return height, width


@dataclass(frozen=True)
class CenterCrop:
    """Show the central square of each image, its side `part` of the shorter side: what a test sees.

    Nothing is drawn. In a phase at s pixels it is FixRes's test transform, torchvision's
    `Resize(int(s / part))` and `CenterCrop(s)`, so that a fine-tuning phase can train on the views that it is
    tested on: `Test(resize=int(s / part), crop=s)`. Reference: https://arxiv.org/abs/1906.06423.

    It equals that transform where it magnifies and both sides s / part are whole, with an even margin.
    Elsewhere torchvision rounds to whole pixels, which moves the zoom by up to one pixel of the view and the
    crop by up to half of one; and where the square is made smaller torchvision blurs first, while a read
    blurs only from 1.5 times on. Mean absolute difference for the default part on 400 patches of 96 pixels of
    two photographs: at 112 pixels below 0.000001, at 120 (137 is odd) 0.016, at 70 0.0042, at 42 0.010.

    Args:
        part: in (0, 1], the side of the square over the shorter side of the image.
    """

    part: float = 224 / 256

    fused: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number("CenterCrop's part", self.part, least=0, most=1)
        if self.part == 0:
            raise ValueError("CenterCrop's part should be above 0, not 0: give 224/256, or 1 for the square")

    def maps(self, generator: draw.Source, count: int, height: int, width: int) -> Tensor:
        """(count, 3, 3) from the whole frame into the central square, the same for each; see `Warp`."""
        side = self.part * min(height, width)
        maps = same(generator, count)
        maps[:, 0, 0], maps[:, 1, 1] = side / width, side / height
        return maps


@dataclass(frozen=True)
class Translate:
    """Shift each image by whole pixels, each way up to a fraction of its size.

    As `torchvision.transforms.v2.RandomAffine(0, translate=(fraction, fraction), fill=fill)`, drawn for each
    image: the shift is even in (-fraction, fraction) times the size and rounded to whole pixels.

    Args:
        fraction: in [0, 1], or a pair (of the width, of the height).
        fill: what shows behind, in [0, 1]: one brightness or one per channel; 0.5 is mid-grey.
    """

    fraction: float | tuple[float, float]
    fill: float | tuple[float, ...] = 0.0

    fused: ClassVar[bool] = True

    def __post_init__(self) -> None:
        given = self.fraction
        if isinstance(given, tuple | list):
            if len(given) != 2:
                raise ValueError(f"Translate's fraction should be a number or a pair, not {given!r}")
            object.__setattr__(self, "fraction", tuple(given))
        for part in given if isinstance(given, tuple | list) else (given,):
            number("Translate's fraction", part, least=0, most=1)
        object.__setattr__(self, "fill", colour("Translate's fill", self.fill))

    def maps(self, generator: draw.Source, count: int, height: int, width: int) -> Tensor:
        """(count, 3, 3) shifts by whole pixels; see `Warp`."""
        pair = self.fraction if isinstance(self.fraction, tuple) else (self.fraction, self.fraction)
        maps = same(generator, count)
        for axis, reach in enumerate((pair[0] * width, pair[1] * height)):
            maps[:, axis, 2] = -draw.uniform(generator, (count,), -reach, reach).round()
        return maps


@dataclass(frozen=True)
class Shift:
    """Shift each image by whole pixels, up to `pixels` each way, each shift equally likely.

    As `torchvision.transforms.v2.RandomCrop(size, padding=pixels, padding_mode="reflect")`, drawn for each
    image: the crop of a padded image that CIFAR-10 is usually trained with. Mirrors may stand before it in
    the same read; after any other step that moves pixels it is a read of its own.

    Args:
        pixels: a whole number of at least 1, in pixels of the image that the step is given.
        fill: what shows behind: "reflect", the image mirrored at its outermost pixels, or a brightness in
            [0, 1], or one per channel.
    """

    pixels: int = 2
    fill: float | tuple[float, ...] | Literal["reflect"] = "reflect"

    fused: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("Shift's pixels", self.pixels, 1, 1 << 16)
        if isinstance(self.fill, str) and self.fill != REFLECT:
            raise ValueError(f"Shift's fill should be 'reflect' or a brightness, not {self.fill!r}")
        if not isinstance(self.fill, str):
            object.__setattr__(self, "fill", colour("Shift's fill", self.fill))

    def maps(self, generator: draw.Source, count: int, height: int, width: int) -> Tensor:
        """(count, 3, 3) shifts by whole pixels; see `Warp`."""
        maps = same(generator, count)
        drawn = draw.below(generator, torch.full((count, 2), 2 * self.pixels + 1, device=generator.device))
        maps[:, :2, 2] = (drawn - self.pixels).double()
        return maps


def same(source: draw.Source, count: int) -> Tensor:
    """(count, 3, 3) maps that leave every pixel where it is."""
    return torch.eye(3, dtype=torch.float64, device=source.device).repeat(count, 1, 1)


def rotations(degrees: Tensor) -> Tensor:
    """(count, 3, 3) maps that turn an image anticlockwise about its middle by `degrees` (count,)."""
    angles = degrees.double() * (math.pi / 180)
    maps = angles.new_zeros(len(angles), 3, 3)
    maps[:, 0, 0] = maps[:, 1, 1] = angles.cos()
    maps[:, 1, 0] = angles.sin()
    maps[:, 0, 1] = -maps[:, 1, 0]
    maps[:, 2, 2] = 1.0
    return maps


def draw_maps(steps: Sequence[Warp], source: draw.Source, count: int, height: int, width: int) -> Tensor:
    """What the steps' `maps` answer, in order, float64 (steps, count, 3, 3), after a look at what they are.

    From a stream only steps draw that are fused, whose maps are not looked at.

    Raises ValueError naming one that is no floating CPU tensor (count, 3, 3) of affine maps.
    """
    if isinstance(source, draw.Stream):
        return torch.stack([step.maps(source, count, height, width).double() for step in steps])  # type: ignore[arg-type]
    maps = torch.stack([_map(step, step.maps(source, count, height, width), count) for step in steps])
    last = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(count, 3)
    if not torch.equal(maps[:, :, 2], last.expand(len(steps), count, 3)):
        step = next(step for step, one in zip(steps, maps) if not torch.equal(one[:, 2], last))
        raise ValueError(f"the maps of {step!r} should be affine: the last row of each is (0, 0, 1)")
    return maps


def _map(step: Warp, maps: object, count: int) -> Tensor:
    shape = (count, 3, 3)
    if not isinstance(maps, Tensor) or tuple(maps.shape) != shape or not maps.is_floating_point():
        kind = f"{maps.dtype} {tuple(maps.shape)}" if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(f"the maps of {step!r} should be a floating tensor of shape {shape}, not {kind}")
    if maps.device.type != "cpu":
        raise ValueError(f"the maps of {step!r} should be drawn on the CPU, not on {maps.device}")
    return maps.double()
