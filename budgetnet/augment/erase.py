"""Random erasing: a box of each image painted over."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from budgetnet.augment import check, draw
from budgetnet.augment.mix import inside


@dataclass(frozen=True)
class Erase:
    """Paint over a box of random area and aspect ratio in each image, with probability `p`.

    The box is that of `torchvision.transforms.v2.RandomErasing`, drawn for each image: ten tries at an area
    and a log-uniform ratio, rounded to whole pixels and smaller than the image each way, else nothing.
    Reference: https://arxiv.org/abs/1708.04896.

    Args:
        p: probability in [0, 1].
        scale: (from, to), the box's share of the area, within [0, 1].
        ratio: (from, to), height over width of the box.
        value: the paint, in [0, 1]: one brightness or one per channel; 0 is black, 0.5 mid-grey. Recipes that
            erase after standardising paint with the mean of the data. "noise" is for each pixel and channel a
            normal number about mid-grey with a deviation of 0.25, kept to [0, 1].
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float | tuple[float, ...] | str = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", check.number("Erase's p", self.p, 0.0, 1.0))
        object.__setattr__(self, "scale", check.span("Erase's scale", self.scale, 0.0, 1.0))
        object.__setattr__(self, "ratio", check.span("Erase's ratio", self.ratio, 0.01, 100.0))
        if isinstance(self.value, str):
            if self.value != "noise":
                raise ValueError(f'Erase\'s value must be a brightness or "noise", found {self.value!r}')
        else:
            object.__setattr__(self, "value", check.colour("Erase's value", self.value))

    def boxes(self, generator: Generator, count: int, height: int, width: int) -> tuple[Tensor, ...]:
        """(top, left, bottom, right) of each image's box, int64 (count,) each; empty boxes erase nothing."""
        areas, ratios = draw.areas_and_ratios(generator, count, height * width, self.scale, self.ratio)
        heights, widths = (areas * ratios).sqrt().round(), (areas / ratios).sqrt().round()
        valid = (heights < height) & (widths < width)
        found, (heights, widths) = draw.first_valid(valid, heights, widths)
        heights, widths = heights.long(), widths.long()
        erased = draw.chance(generator, count, self.p) & found
        heights, widths = heights * erased, widths * erased
        top = draw.below(generator, height - heights + 1)
        left = draw.below(generator, width - widths + 1)
        return top, left, top + heights, left + widths

    def act(
        self, images: Tensor, labels: Tensor, *, classes: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Paint into float (B, C, H, W) in [0, 1]; the labels stay."""
        check.channels_match(self, self.value, images.shape[1])
        boxes = self.boxes(generator, len(images), images.shape[-2], images.shape[-1])
        if self.value == "noise":
            paint = _noise(images, (boxes[2] > boxes[0]).nonzero().squeeze(1), generator)
        else:
            paint = draw.send(torch.tensor(self.value, dtype=torch.float32), images.device).reshape(-1, 1, 1)
        return torch.where(inside(boxes, images), paint, images), labels


def _noise(images: Tensor, members: Tensor, generator: Generator) -> Tensor:
    """The images with those at `members` replaced by noise: no more than is needed is drawn."""
    noise = torch.randn((len(members), *images.shape[1:]), generator=generator)
    noise = noise.mul_(0.25).add_(0.5).clamp_(0, 1)
    return images.index_copy(0, draw.send(members, images.device), draw.send(noise, images.device))
