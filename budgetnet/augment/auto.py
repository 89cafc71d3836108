"""RandAugment and TrivialAugment: operations drawn for each image, grouped so that each runs once.

Each operation does to every image what torchvision's functional of the same name does to one, bit for bit:
the same float32 sums in the same order, cut off to whole numbers in the same way. Importing torchvision
itself would take as long as importing torch.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from budgetnet.augment import draw
from budgetnet.augment.steps import Batch, check_channels, check_colours
from budgetnet.augment.warp import rotations
from budgetnet.values import colour, one_of, whole

WARPS = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
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

    def ready(self, data: Any) -> None:
        """Refuse `Data` whose images are neither grey nor RGB. Raises ValueError."""
        check_colours(self, data.train.shape[1])

    def draw(self, generator: Generator, count: int, height: int, width: int) -> tuple[list[str], Tensor]:
        """One operation for each image and its signed magnitude, float64 (count,)."""
        shift = {"TranslateX": 150.0 / 331.0 * width, "TranslateY": 150.0 / 331.0 * height}
        reach = {**dict.fromkeys(SIGNED, 0.9), "ShearX": 0.3, "ShearY": 0.3, **shift, "Rotate": 30.0}
        tables = _tables(self.bins, tuple(reach.items()), bits=4)
        return _draw(generator, torch.full((count,), self.magnitude), tables)

    def act(self, images: Tensor, labels: Tensor, *, classes: int, generator: Generator) -> Batch:
        """float (B, C, H, W) in [0, 1] to the same in steps of 1/255; the labels stay."""
        return _acted(self, self.operations, images, generator), labels


@dataclass(frozen=True)
class TrivialAugmentWide:
    """Apply to each image one operation, of a magnitude, both drawn for it.

    The operations, magnitudes and signs of `torchvision.transforms.v2.TrivialAugmentWide`, drawn for each
    image, on whole numbers and with `bins`, `interpolation` and `fill` as in `RandAugment`. Reference:
    https://arxiv.org/abs/2103.10158.
    """

    bins: int = 31
    interpolation: str = "nearest"
    fill: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        _check("TrivialAugmentWide", self)

    def ready(self, data: Any) -> None:
        """Refuse `Data` whose images are neither grey nor RGB. Raises ValueError."""
        check_colours(self, data.train.shape[1])

    def draw(self, generator: Generator, count: int, height: int, width: int) -> tuple[list[str], Tensor]:
        """One operation for each image and its signed magnitude, float64 (count,)."""
        levels = torch.randint(self.bins, (count,), generator=generator)
        reach = {**dict.fromkeys(SIGNED, 0.99), "TranslateX": 32.0, "TranslateY": 32.0, "Rotate": 135.0}
        return _draw(generator, levels, _tables(self.bins, tuple(reach.items()), bits=6))

    def act(self, images: Tensor, labels: Tensor, *, classes: int, generator: Generator) -> Batch:
        """float (B, C, H, W) in [0, 1] to the same in steps of 1/255; the labels stay."""
        return _acted(self, 1, images, generator), labels


def apply(
    step: RandAugment | TrivialAugmentWide, images: Tensor, names: list[str], magnitudes: Tensor
) -> Tensor:
    """Apply to each of the uint8 images (B, C, H, W) its own operation and magnitude."""
    check_colours(step, images.shape[1])
    check_channels(step, step.fill, images.shape[1])
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault("warp" if name in WARPS else name, []).append(index)
    groups.pop("Identity", None)
    result = images.clone()
    rows = torch.tensor([index for members in groups.values() for index in members], dtype=torch.int64)
    # Sent once for all the groups: on a GPU each way there costs as much as the work of a group.
    chosen = draw.send(rows, images.device)
    strengths = draw.send(Strengths.of(magnitudes[rows]).numbers, images.device)
    end = 0
    for name, members in groups.items():
        which = slice(end, end := end + len(members))
        part = images.index_select(0, chosen[which])
        if name == "warp":
            maps = warp_maps([names[index] for index in members], magnitudes[rows[which]], *images.shape[-2:])
            part = warp(part, maps, step.interpolation, step.fill)
        else:
            part = operate(name, part, Strengths(strengths[:, which]))
        result.index_copy_(0, chosen[which], part)
    return result


@dataclass(frozen=True)
class Strengths:
    """What recolouring operations make of their magnitudes: `numbers` float32 (4, B), on any device."""

    numbers: Tensor

    @classmethod
    def of(cls, magnitudes: Tensor) -> "Strengths":
        """Those of magnitudes (B,), float64 on the CPU: factors, 1 - factors, thresholds and masks."""
        factors = 1.0 + magnitudes
        masks = 256 - 2 ** (8 - magnitudes.clamp(0, 8).long())
        return cls(torch.stack([factors, 1.0 - factors, 255.0 * magnitudes, masks]).float())

    @property
    def factors(self) -> Tensor:
        """(B, 1, 1, 1): of brightness, contrast and such."""
        return self.numbers[0, :, None, None, None]

    @property
    def rest(self) -> Tensor:
        """(B, 1, 1, 1): what is left for the image that is blended in."""
        return self.numbers[1, :, None, None, None]

    @property
    def thresholds(self) -> Tensor:
        """(B, 1, 1, 1): Solarize's, of 255."""
        return self.numbers[2, :, None, None, None]

    @property
    def masks(self) -> Tensor:
        """uint8 (B, 1, 1, 1): the bits that Posterize leaves."""
        return self.numbers[3, :, None, None, None].to(torch.uint8)


def _draw(generator: Generator, levels: Tensor, magnitudes: Tensor) -> tuple[list[str], Tensor]:
    count = len(levels)
    chosen = torch.randint(len(OPERATIONS), (count,), generator=generator)
    negative = torch.rand(count, generator=generator) <= 0.5
    names = [OPERATIONS[index] for index in chosen.tolist()]
    signed = _signed()[chosen]
    drawn = magnitudes[chosen, levels]
    return names, torch.where(negative & signed, -drawn, drawn)


@lru_cache
def _signed() -> Tensor:
    """(operations,): whether each has magnitudes of both signs."""
    return torch.tensor([name in SIGNED for name in OPERATIONS])


@lru_cache
def _tables(bins: int, reach: tuple[tuple[str, float], ...], bits: int) -> Tensor:
    """The magnitudes of each operation, 0 for one that has none: (operations, bins), float64 of torchvision's
    float32.
    """
    tables = {name: torch.linspace(0.0, end, bins) for name, end in reach}
    tables["Posterize"] = (8 - (torch.arange(bins) / ((bins - 1) / bits))).round()
    tables["Solarize"] = torch.linspace(1.0, 0.0, bins)
    return torch.stack([tables.get(name, torch.zeros(bins)).double() for name in OPERATIONS])


def _acted(
    step: RandAugment | TrivialAugmentWide, times: int, images: Tensor, generator: Generator
) -> Tensor:
    """Views after one operation each, so many times."""
    pixels = images.mul(255).round_().clamp_(0, 255).to(torch.uint8)
    for _ in range(times):
        names, magnitudes = step.draw(generator, len(pixels), pixels.shape[-2], pixels.shape[-1])
        pixels = apply(step, pixels, names, magnitudes)
    return pixels.float().mul_(1 / 255)


def _check(name: str, step: RandAugment | TrivialAugmentWide) -> None:
    whole(f"{name}'s bins", step.bins, 2, 10_000)
    one_of(f"{name}'s interpolation", step.interpolation, ("nearest", "bilinear"))
    object.__setattr__(step, "fill", colour(f"{name}'s fill", step.fill))


def operate(name: str, images: Tensor, strengths: Strengths) -> Tensor:
    """Apply the recolouring operation `name`: uint8 (B, C, H, W) to the same; strengths on its device.

    `WARPS` have `warp_maps` instead.
    """
    if name == "AutoContrast":
        return _autocontrast(images)
    if name == "Equalize":
        return _equalize(images)
    if name == "Posterize":
        return images & strengths.masks
    if name == "Solarize":
        return torch.where(images >= strengths.thresholds, images.bitwise_not(), images)
    if name == "Brightness":
        return (images * strengths.factors).clamp_(0, 255).to(torch.uint8)
    if name == "Contrast":
        grey = _grey(images)
        return _blend(images.float(), grey.mean(dim=(1, 2, 3), keepdim=True), strengths)
    if name == "Color":
        return images if images.shape[1] == 1 else _blend(images.float(), _grey(images), strengths)
    assert name == "Sharpness", name
    return _sharpen(images, strengths)


def warp_maps(names: list[str], magnitudes: Tensor, height: int, width: int) -> Tensor:
    """(B, 3, 3) float64 maps from output to input coordinates in pixels about the middle; see `Warp`.

    As in torchvision, shears leave the top row, or the left column, where it is.
    """
    maps = torch.eye(3, dtype=torch.float64).repeat(len(names), 1, 1)
    chosen = {name: torch.tensor([other == name for other in names]) for name in WARPS}
    shear_x, shear_y = magnitudes * chosen["ShearX"], magnitudes * chosen["ShearY"]
    maps[:, 0, 1], maps[:, 0, 2] = shear_x, shear_x * (height / 2)
    maps[:, 1, 0], maps[:, 1, 2] = shear_y, shear_y * (width / 2)
    maps[:, 0, 2] -= (magnitudes * chosen["TranslateX"]).trunc()
    maps[:, 1, 2] -= (magnitudes * chosen["TranslateY"]).trunc()
    return maps @ rotations(magnitudes * chosen["Rotate"])


def warp(images: Tensor, maps: Tensor, interpolation: str, fill: float | tuple[float, ...]) -> Tensor:
    """Read uint8 (B, C, H, W) through `maps` (B, 3, 3), `fill` in [0, 1] outside: uint8 of that shape."""
    height, width = images.shape[-2:]
    half = torch.tensor([width / 2, height / 2, 1.0], dtype=torch.float64)
    unit_maps = draw.send((maps * half / half[:, None])[:, :2].float(), images.device)
    x = torch.arange(width, device=images.device).mul_(2).add_(1) / width - 1
    y = torch.arange(height, device=images.device).mul_(2).add_(1) / height - 1
    down = unit_maps[:, :, 1, None] * y + unit_maps[:, :, 2, None]
    grid = (down[:, :, :, None] + (unit_maps[:, :, 0, None] * x)[:, :, None, :]).permute(0, 2, 3, 1)
    pixels = images.float()
    if fill == 0:
        return F.grid_sample(pixels, grid, interpolation, "zeros", False).round_().to(torch.uint8)
    pixels = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1)
    pixels = F.grid_sample(pixels, grid, interpolation, "zeros", False)
    pixels, seen = pixels[:, :-1], pixels[:, -1:]
    paint = torch.tensor(fill, dtype=torch.float32).mul_(255).reshape(-1, 1, 1)
    paint = draw.send(paint, images.device)
    # Along the edge this weighs a pixel that is already dimmed once more: as torchvision has it.
    pixels = (pixels - paint) * seen + paint
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images.unbind(dim=1)
    # Cut off to whole numbers.
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).to(torch.uint8).float()[:, None]


def _autocontrast(images: Tensor) -> Tensor:
    """Each channel stretched to all of 0 to 255; one of a single value stays."""
    pixels = images.float()
    least, scale = pixels.amin(dim=(2, 3), keepdim=True), pixels.amax(dim=(2, 3), keepdim=True)
    single = least == scale
    scale = scale.sub_(least).mul_(1 / 255).masked_fill_(single, 1.0)
    return pixels.sub_(least.masked_fill_(single, 0.0)).div_(scale).clamp_(0, 255).to(torch.uint8)


def _equalize(images: Tensor) -> Tensor:
    """Each channel with about as many pixels of every value, as Pillow has it."""
    values = images.flatten(2).long()
    histogram = values.new_zeros((*values.shape[:2], 256), dtype=torch.int32)
    histogram.scatter_add_(2, values, histogram.new_ones(1).expand_as(values))
    sums = histogram.cumsum(dim=2)
    brightest = histogram.gather(2, sums.argmax(dim=2, keepdim=True))
    step = (values.shape[2] - brightest) // 255
    table = ((sums[:, :, :-1] + step // 2) // step.clamp(min=1)).clamp_(0, 255).to(torch.uint8)
    equal = F.pad(table, (1, 0)).gather(2, values).view_as(images)
    return torch.where(step[..., None] > 0, equal, images)


def _blend(pixels: Tensor, other: Tensor, strengths: Strengths) -> Tensor:
    scaled = pixels * strengths.factors
    return torch.addcmul(scaled, other, strengths.rest).clamp_(0, 255).to(torch.uint8)


def _sharpen(images: Tensor, strengths: Strengths) -> Tensor:
    if min(images.shape[-2:]) <= 2:
        return images
    pixels = images.float()
    inner = pixels[:, :, 1:-1, 1:-1]
    # Whole numbers up to here, so that no rounding depends on the order of the sum.
    nine = F.avg_pool2d(pixels, 3, stride=1, divisor_override=1)
    blurred = nine.add_(inner, alpha=4).div_(13).round_()
    inner.addcmul_(blurred - inner, strengths.rest)
    return pixels.clamp_(0, 255).to(torch.uint8)
