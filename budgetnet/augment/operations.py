"""The operations of RandAugment and TrivialAugment on uint8 images, with a magnitude for each image.

Each does to every image what torchvision's functional of the same name does to one, bit for bit: the same
float32 sums in the same order, cut off to whole numbers in the same way. Importing torchvision itself would
take as long as importing torch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from budgetnet.augment import draw
from budgetnet.augment.warp import rotations

WARPS = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")


def operate(name: str, images: Tensor, magnitudes: Tensor) -> Tensor:
    """Apply the recolouring operation `name`: uint8 (B, C, H, W) to the same; magnitudes (B,) on the CPU.

    `WARPS` have `warp_maps` instead.
    """
    if name == "AutoContrast":
        return _autocontrast(images)
    if name == "Equalize":
        return _equalize(images)
    if name == "Posterize":
        masks = 256 - 2 ** (8 - magnitudes.long())
        return images & _each(masks.to(torch.uint8), images)
    if name == "Solarize":
        thresholds = _each((255.0 * magnitudes).float(), images)
        return torch.where(images >= thresholds, images.bitwise_not(), images)
    factors = 1.0 + magnitudes
    if name == "Brightness":
        return (images * _each(factors.float(), images)).clamp_(0, 255).to(torch.uint8)
    if name == "Contrast":
        grey = _grey(images)
        return _blend(images.float(), grey.mean(dim=(1, 2, 3), keepdim=True), factors)
    if name == "Color":
        return images if images.shape[1] == 1 else _blend(images.float(), _grey(images), factors)
    assert name == "Sharpness", name
    return _sharpen(images, factors)


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


def _each(values: Tensor, images: Tensor) -> Tensor:
    return draw.send(values, images.device)[:, None, None, None]


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


def _blend(pixels: Tensor, other: Tensor, factors: Tensor) -> Tensor:
    scaled = pixels * _each(factors.float(), pixels)
    rest = _each((1.0 - factors).float(), pixels)
    return torch.addcmul(scaled, other, rest).clamp_(0, 255).to(torch.uint8)


def _sharpen(images: Tensor, factors: Tensor) -> Tensor:
    if min(images.shape[-2:]) <= 2:
        return images
    pixels = images.float()
    inner = pixels[:, :, 1:-1, 1:-1]
    # Whole numbers up to here, so that no rounding depends on the order of the sum.
    nine = F.avg_pool2d(pixels, 3, stride=1, divisor_override=1)
    blurred = nine.add_(inner, alpha=4).div_(13).round_()
    rest = _each((1.0 - factors).float(), pixels)
    inner.addcmul_(blurred - inner, rest)
    return pixels.clamp_(0, 255).to(torch.uint8)
