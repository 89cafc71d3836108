"""Colour steps: those that are linear become one matrix per image; torchvision's HSV hue on request."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from budgetnet.augment import draw
from budgetnet.augment.pieces import Pass, in_pieces, unit
from budgetnet.augment.steps import Batch, Colour, check_colours
from budgetnet.values import number, span, true_or_false

LUMA = (0.2989, 0.587, 0.114)
"""How much red, green and blue count in grey, as torchvision has it."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_QUARTER = (0.0, -1.0, 1.0, 1.0, 0.0, -1.0, -1.0, 1.0, 0.0)
"""Times 1 / sqrt(3): what turns red towards green."""


@dataclass(frozen=True)
class Jitter:
    """Change brightness, contrast, saturation and hue of each image, in an order drawn for each image.

    As `torchvision.transforms.v2.ColorJitter`, with its factors and its order drawn for each image: the first
    three factors are even in [max(0, 1 - x), 1 + x], the hue's shift is even in [-x, x] turns. Images of one
    channel know no saturation and no hue.

    All four are one matrix per image: the mean grey that contrast needs is carried through the others
    exactly, values are clamped once at the end instead of after each of the four, and hue turns about the
    grey axis. With `exact_hue` hue is torchvision's, by way of HSV, between a matrix for what comes before it
    and one for what comes after, each clamped; this is several times slower.

    How far that is from torchvision with the same factors and order, as mean and median absolute difference
    on 400 patches of 64 x 64 pixels of two photographs: Jitter(0.3, 0.3, 0.3, 0.3) 0.023 and 0.011, where
    torchvision itself changes a pixel by 0.098; without hue 0.0009 and 0; with exact_hue 0.0007 and 0.

    Args:
        brightness, contrast, saturation: x of at least 0, or a pair (from, to) of factors.
        hue: x in [0, 0.5], or a pair (from, to) within [-0.5, 0.5], in turns.
        exact_hue: hue by way of HSV.
    """

    brightness: float | tuple[float, float] = 0.0
    contrast: float | tuple[float, float] = 0.0
    saturation: float | tuple[float, float] = 0.0
    hue: float | tuple[float, float] = 0.0
    exact_hue: bool = False

    fused: ClassVar[bool] = True

    def __post_init__(self) -> None:
        limits = {**dict.fromkeys(("brightness", "contrast", "saturation"), (0.0, None)), "hue": (-0.5, 0.5)}
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if isinstance(value, tuple | list):
                object.__setattr__(self, name, span(f"Jitter's {name}", value, least, most))
            else:
                number(f"Jitter's {name}", value, least=0, most=most)
        true_or_false("Jitter's exact_hue", self.exact_hue)

    def ready(self, data: Any) -> None:
        """Refuse `Data` whose images are neither grey nor RGB. Raises ValueError."""
        check_colours(self, data.train.shape[1])

    def factors(self, generator: draw.Source, count: int) -> tuple[Tensor, Tensor]:
        """(count, 4) factors of brightness, contrast, saturation and hue, and the order that they act in."""
        order = draw.even(generator, (count, 4)).argsort(dim=1)
        spans = [
            value if isinstance(value, tuple) else (max(0.0, 1.0 - value), 1.0 + value)
            for value in (self.brightness, self.contrast, self.saturation)
        ]
        spans.append(self.hue if isinstance(self.hue, tuple) else (-self.hue, self.hue))
        return torch.cat([draw.uniform(generator, (count, 1), *span) for span in spans], dim=1), order

    def matrices(self, generator: draw.Source, count: int, channels: int) -> Tensor:
        """(count, channels, 2 * channels + 1), hue as a turn about the grey axis; see `Colour`."""
        check_colours(self, channels)
        factors, order = self.factors(generator, count)
        return jitter_matrices(factors, order, channels)

    def act(self, images: Tensor, labels: Tensor, *, classes: int, generator: Generator) -> Batch:
        """Recolour float (B, C, H, W) in [0, 1], hue by way of HSV; the labels stay."""
        count, channels = images.shape[:2]
        check_colours(self, channels)
        factors, order = self.factors(generator, count)
        hue_at = (order == HUE).int().argmax(dim=1, keepdim=True)
        positions = torch.arange(4).expand(count, 4)
        images = recolour(images, jitter_matrices(factors, order, channels, positions < hue_at))
        if channels == 3:
            images = turn_hue(images, draw.send(factors[:, HUE].float(), images.device))
        return recolour(images, jitter_matrices(factors, order, channels, positions > hue_at)), labels


@dataclass(frozen=True)
class Grayscale:
    """Take the colour out of each image with probability `p`; the number of channels stays.

    As `torchvision.transforms.v2.RandomGrayscale(p)`, drawn for each image.

    Args:
        p: probability in [0, 1].
    """

    p: float = 0.1

    fused: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number("Grayscale's p", self.p, least=0, most=1)

    def ready(self, data: Any) -> None:
        """Refuse `Data` whose images are neither grey nor RGB. Raises ValueError."""
        check_colours(self, data.train.shape[1])

    def matrices(self, generator: draw.Source, count: int, channels: int) -> Tensor:
        """(count, channels, channels + 1); see `Colour`."""
        check_colours(self, channels)
        factors = 1.0 - draw.chance(generator, count, self.p).double()
        return torch.cat([_saturate(factors, channels), factors.new_zeros(count, channels, 1)], dim=2)


def jitter_matrices(factors: Tensor, order: Tensor, channels: int, used: Tensor | None = None) -> Tensor:
    """(B, C, 2C + 1) that change brightness, contrast, saturation and hue by `factors` (B, 4).

    Contrast adds a share of the image's mean grey. That mean moves as a pixel does under the other three, and
    under contrast as under saturation; so two products, one for pixels and one for means, are all it takes.

    Args:
        order: (B, 4), which of the four acts first, second, third and last.
        used: (B, 4), whether the one at that place acts at all; all do without it.
    """
    count = len(factors)
    angles = factors[:, HUE, None] * (2 * math.pi)
    terms = torch.cat([factors[:, :HUE], angles.cos(), angles.sin(), torch.ones_like(angles)], dim=1)
    # (B, 4, 2, C, C): the four, each for pixels and for means; then in the order in which they act.
    steps = (terms @ _bases(channels, factors)).view(count, 4, 2, channels, channels)
    steps = steps[torch.arange(count, device=order.device)[:, None], order]
    steps = steps.transpose(0, 1).reshape(4, 2 * count, channels, channels)
    if used is not None:
        acts = used.t().repeat_interleave(2, dim=1)[:, :, None, None]
        steps = torch.where(acts, steps, torch.eye(channels, dtype=steps.dtype, device=steps.device))
    product = steps[0]
    for step in steps[1:]:
        product = draw.product(step, product)
    pixels, means = product.view(count, 2, channels, channels).unbind(dim=1)
    return torch.cat([pixels, pixels.new_zeros(count, channels, 1), means - pixels], dim=2)


def _bases(channels: int, like: Tensor) -> Tensor:
    """(6, 4 * 2 * C * C): what each term of `jitter_matrices` adds to each of its matrices."""
    there = torch.compiler.is_compiling() or like.device.type != "cpu"
    return _made_bases(channels, like) if there else _bases_here(channels)


@lru_cache
def _bases_here(channels: int) -> Tensor:
    return _made_bases(channels, torch.empty(0, dtype=torch.float64))


def _made_bases(channels: int, like: Tensor) -> Tensor:
    same = torch.eye(channels, dtype=like.dtype, device=like.device).view(-1)
    mean, none = torch.full_like(same, 1 / channels), torch.zeros_like(same)
    grey = draw.constant(LUMA * 3, like) if channels == 3 else same
    turn = draw.constant(_QUARTER, like) / math.sqrt(3) if channels == 3 else none
    # Brightness, contrast, contrast of means, saturation, hue; for pixels and means where there are two.
    terms = (
        (same, same, none, none, none, none, none, none),
        (none, none, same, same - grey, none, none, none, none),
        (none, none, none, none, same - grey, same - grey, none, none),
        (none, none, none, none, none, none, same - mean, same - mean),
        (none, none, none, none, none, none, turn, turn),
        (none, none, none, grey, grey, grey, mean, mean),
    )
    return torch.stack([torch.cat(term) for term in terms])


def combine(steps: Sequence[Any], source: draw.Source, count: int, channels: int) -> Tensor:
    """Draw the matrices of consecutive colour steps, in order, and multiply them: float64 (B, C, 2C + 1).

    Raises ValueError for matrices that are no floating CPU tensor of one of the two shapes of `Colour`.
    """
    combined: tuple[Tensor, Tensor, Tensor] | None = None
    for step in steps:
        matrices = _checked(step.matrices(source, count, channels), step, count, channels, source.device)
        one, added, by_mean = (
            matrices[:, :, :channels],
            matrices[:, :, channels, None],
            matrices[:, :, channels + 1 :],
        )
        # A mean goes through the step as a pixel does that is itself the mean; so does an offset.
        of_means = one + by_mean
        if combined is not None:
            pixels, means, offset = combined
            added = draw.product(of_means, offset) + added
            one, of_means = draw.product(one, pixels), draw.product(of_means, means)
        combined = one, of_means, added
    assert combined is not None
    pixels, means, offset = combined
    return torch.cat([pixels, offset, means - pixels], dim=2)


def recolour(images: Tensor, matrices: Tensor) -> Tensor:
    """float (B, C, H, W) in [0, 1] through `matrices` (B, C, 2C + 1) on the CPU, clamped to [0, 1]."""
    size = (images.shape[-2], images.shape[-1])
    return in_pieces([recolouring(matrices, size, images.device)], images)


def recolouring(matrices: Tensor, size: tuple[int, int], device: torch.device) -> Pass:
    """One pass over float images (B, C, *size) in [0, 1]; `matrices` (B, C, 2C + 1) lie on the CPU."""
    uses_means = bool(matrices[:, :, matrices.shape[1] + 1 :].any())
    sent = draw.send(matrices.float(), device)
    act = _by_products if device.type == "cpu" else by_channels
    pixels = size[0] * size[1]
    return Pass(lambda some, which: act(unit(some), sent[which], uses_means), size, pixels, bounded=False)


def _by_products(images: Tensor, matrices: Tensor, uses_means: bool) -> Tensor:
    """One pass; on CUDA a product of matrices may be rounded to TF32."""
    offsets, factors = _offsets(images, matrices, uses_means), matrices[:, :, : images.shape[1]]
    return torch.baddbmm(offsets, factors, images.flatten(2)).view_as(images)


def by_channels(images: Tensor, matrices: Tensor, uses_means: bool) -> Tensor:
    """float32 images (B, C, H, W) through `matrices` (B, C, 2C + 1), which use the images' means or not."""
    factors = matrices[..., None, None]
    offsets = _offsets(images, matrices, uses_means)[..., None]
    result = torch.addcmul(offsets, images[:, 0, None], factors[:, :, 0])
    for channel in range(1, images.shape[1]):
        result.addcmul_(images[:, channel, None], factors[:, :, channel])
    return result


def _offsets(images: Tensor, matrices: Tensor, uses_means: bool) -> Tensor:
    """(B, C, 1): what is added to each pixel of an image."""
    channels = images.shape[1]
    added = matrices[:, :, channels, None]
    if not uses_means:
        return added
    # Two means, because a single one may be summed in an order that depends on the number of threads.
    means = images.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)
    by_mean = matrices[:, :, channels + 1 :, None, None] * means[:, None]
    return added + by_mean.sum(dim=2).flatten(2)


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """float RGB (B, 3, H, W) in [0, 1] with each image's hue moved by `turns` (B,) of a circle, as in HSV.

    torchvision's `adjust_hue`, in a closed form that needs no table of the six sectors.
    """
    red, green, blue = images.unbind(dim=1)
    low, high = images.aminmax(dim=1)
    chroma = high - low
    scale = 1 / torch.where(chroma == 0, 1, chroma)
    sector = torch.where(high == green, (blue - red) * scale + 2, (red - green) * scale + 4)
    sector = torch.where(high == red, (green - blue) * scale, sector)
    sector = sector + 6 * turns[:, None, None]
    around = draw.constant([5.0, 3.0, 1.0], images)[:, None, None]
    angle = (sector[:, None] + around).remainder_(6)
    weight = torch.minimum(angle, 4 - angle).clamp_(0, 1)
    return torch.addcmul(high[:, None], weight, chroma[:, None], value=-1).clamp_(0, 1)


def _checked(matrices: object, step: Colour, count: int, channels: int, device: torch.device) -> Tensor:
    shapes = [(count, channels, channels + 1), (count, channels, 2 * channels + 1)]
    if (
        isinstance(matrices, Tensor)
        and tuple(matrices.shape) in shapes
        and matrices.is_floating_point()
        and matrices.device == device
    ):
        if matrices.shape == shapes[1]:
            return matrices.double()
        return torch.cat([matrices, matrices.new_zeros(count, channels, channels)], dim=2).double()
    given = f"{matrices.dtype} {tuple(matrices.shape)}" if isinstance(matrices, Tensor) else repr(matrices)
    raise ValueError(
        f"the matrices of {step!r} should be a floating CPU tensor of shape {shapes[0]} or {shapes[1]}, "
        f"not {given}"
    )


def _saturate(factors: Tensor, channels: int) -> Tensor:
    """(B, C, C): `factors` (B,) of the pixel, the rest of its grey. One channel is its own grey."""
    luma = draw.constant(LUMA if channels == 3 else (1.0,), factors)
    same = torch.eye(channels, dtype=factors.dtype, device=factors.device)
    factors = factors[:, None, None]
    return factors * same + (1 - factors) * luma.expand(channels, channels)
