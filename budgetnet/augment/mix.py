"""Steps that blend or paste another image into each one of a batch, or paint a box of it over."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from budgetnet.augment import draw
from budgetnet.augment.steps import Batch, check_channels
from budgetnet.values import colour, number, span


@dataclass(frozen=True)
class Mixup:
    """Blend each image, and its label, with the one before it in the batch.

    As `torchvision.transforms.v2.MixUp(alpha=alpha)`, but with a share drawn for each image from
    Beta(alpha, alpha). Labels become probabilities (B, K); such labels are welcome too, so that steps that
    mix can follow one another. Reference: https://arxiv.org/abs/1710.09412.

    Args:
        alpha: above 0 and up to 1000; the smaller, the less is mixed.
        p: the probability in [0, 1] that an image is mixed at all.
    """

    alpha: float
    p: float = 1.0

    def __post_init__(self) -> None:
        _check("Mixup", self)

    def act(self, images: Tensor, labels: Tensor, *, classes: int, generator: Generator) -> Batch:
        """float (B, C, H, W) and labels (B,) or (B, K) to the same images mixed, and labels (B, K)."""
        share = shares(self.alpha, self.p, len(images), generator)
        share = draw.send(share.float(), images.device)
        mixed = torch.lerp(images.roll(1, 0), images, share[:, None, None, None])
        return mixed.clamp_(0, 1), mix_labels(labels, share, classes)


@dataclass(frozen=True)
class Cutmix:
    """Paste a box of the image before it in the batch into each image, and mix the labels by area.

    As `torchvision.transforms.v2.CutMix(alpha=alpha)`, but with a box drawn for each image: its share of the
    area from Beta(alpha, alpha), its middle anywhere, cut off at the border. The share of the pasted label is
    the share of pixels that were pasted. Labels become probabilities (B, K); such labels are welcome too.
    Reference: https://arxiv.org/abs/1905.04899.

    Args:
        alpha: above 0 and up to 1000; 1 makes each size of box equally likely.
        p: the probability in [0, 1] that an image is pasted into at all.
    """

    alpha: float
    p: float = 1.0

    def __post_init__(self) -> None:
        _check("Cutmix", self)

    def boxes(self, generator: Generator, count: int, height: int, width: int) -> tuple[Tensor, ...]:
        """(top, left, bottom, right) of each image's box, int64 (count,) each; empty where none is."""
        half = 0.5 * (1 - shares(self.alpha, self.p, count, generator)).sqrt()
        edges = []
        for size in (height, width):
            middle = draw.below(generator, torch.full((count,), size))
            reach = (half * size).long()
            edges.append(((middle - reach).clamp_(min=0), (middle + reach).clamp_(max=size)))
        (top, bottom), (left, right) = edges
        return top, left, bottom, right

    def act(self, images: Tensor, labels: Tensor, *, classes: int, generator: Generator) -> Batch:
        """float (B, C, H, W) and labels (B,) or (B, K) to the same images pasted into, and labels (B, K)."""
        count, _, height, width = images.shape
        top, left, bottom, right = self.boxes(generator, count, height, width)
        share = 1 - (bottom - top) * (right - left) / (height * width)
        pasted = inside((top, left, bottom, right), images)
        share = draw.send(share.float(), images.device)
        return torch.where(pasted, images.roll(1, 0), images), mix_labels(labels, share, classes)


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
        number("Erase's p", self.p, least=0, most=1)
        object.__setattr__(self, "scale", span("Erase's scale", self.scale, 0.0, 1.0))
        object.__setattr__(self, "ratio", span("Erase's ratio", self.ratio, 0.01, 100.0))
        if isinstance(self.value, str):
            if self.value != "noise":
                raise ValueError(f'Erase\'s value should be a brightness or "noise", not {self.value!r}')
        else:
            object.__setattr__(self, "value", colour("Erase's value", self.value))

    def boxes(self, generator: Generator, count: int, height: int, width: int) -> tuple[Tensor, ...]:
        """(top, left, bottom, right) of each image's box, int64 (count,) each; empty boxes erase nothing."""
        areas, ratios = draw.areas_and_ratios(generator, count, height * width, self.scale, self.ratio)
        heights, widths = (areas * ratios).sqrt().round(), (areas / ratios).sqrt().round()
        valid = (heights < height) & (widths < width)
        fits, (heights, widths) = draw.first_valid(valid, heights, widths)
        heights, widths = heights.long(), widths.long()
        erased = draw.chance(generator, count, self.p) & fits
        heights, widths = heights * erased, widths * erased
        top = draw.below(generator, height - heights + 1)
        left = draw.below(generator, width - widths + 1)
        return top, left, top + heights, left + widths

    def act(self, images: Tensor, labels: Tensor, *, classes: int, generator: Generator) -> Batch:
        """Paint into float (B, C, H, W) in [0, 1]; the labels stay."""
        check_channels(self, self.value, images.shape[1])
        boxes = self.boxes(generator, len(images), images.shape[-2], images.shape[-1])
        if self.value == "noise":
            paint = _noise(images, (boxes[2] > boxes[0]).nonzero().squeeze(1), generator)
        else:
            paint = draw.send(torch.tensor(self.value, dtype=torch.float32), images.device).reshape(-1, 1, 1)
        return torch.where(inside(boxes, images), paint, images), labels


def shares(alpha: float, p: float, count: int, generator: Generator) -> Tensor:
    """(count,) float64 in [0, 1]: how much of itself each image keeps; 1 where it is not mixed."""
    # NumPy's beta is exact for tiny alphas, where a ratio of two gammas is 0 / 0.
    import numpy

    seed = int(torch.randint(2**62, (), generator=generator))
    own = torch.from_numpy(numpy.random.default_rng(seed).beta(alpha, alpha, count))
    return torch.where(draw.chance(generator, count, p), own, 1.0)


def inside(boxes: tuple[Tensor, ...], images: Tensor) -> Tensor:
    """(B, 1, H, W) on the images' device: which pixels lie in each (top, left, bottom, right) on the CPU."""
    height, width = images.shape[-2:]
    edges = draw.send(torch.stack(boxes), images.device)
    top, left, bottom, right = edges[:, :, None, None, None]
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width, device=images.device)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return torch.logical_and(rows, columns)


def _noise(images: Tensor, members: Tensor, generator: Generator) -> Tensor:
    """The images with those at `members` replaced by noise: no more than is needed is drawn."""
    noise = torch.randn((len(members), *images.shape[1:]), generator=generator)
    noise = noise.mul_(0.25).add_(0.5).clamp_(0, 1)
    return images.index_copy(0, draw.send(members, images.device), draw.send(noise, images.device))


def mix_labels(labels: Tensor, share: Tensor, classes: int) -> Tensor:
    """`share` (B,) of the own label, the rest of the one before it: (B,) or (B, K) to float32 (B, K).

    Labels (B, 2, K), which a teacher has said something beside, stay of that shape.
    """
    if labels.ndim == 1:
        labels = labels[:, None] == torch.arange(classes, device=labels.device)
    labels = labels.float()
    return torch.lerp(labels.roll(1, 0), labels, share.view(-1, *[1] * (labels.ndim - 1)))


def _check(name: str, step: Mixup | Cutmix) -> None:
    number(f"{name}'s alpha", step.alpha, least=0, most=1000)
    if step.alpha == 0:
        raise ValueError(f"{name}'s alpha should be above 0, not 0: leave the step out of the list instead")
    number(f"{name}'s p", step.p, least=0, most=1)
