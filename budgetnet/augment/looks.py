"""The fixed looks at an image that a test may take more than one of, and what each of them counts."""

import torch.nn.functional as F
from torch import Tensor


def looks(images: Tensor, *, mirror: bool = False, shift: int = 0) -> list[tuple[float, Tensor]]:
    """The looks (B, C, H, W) that a test takes at float images of that shape, each with its weight; sum 1.

    With `mirror` every look is taken both ways round, each for half. With a `shift` of so many pixels the
    image where it is counts one half, and shifted up and left, and down and right, one quarter each; the
    image goes on mirrored at its outermost pixels. Raises ValueError for a shift that is not below H and W.

    Reference: https://arxiv.org/abs/2404.00498, section 3.5.
    """
    if shift >= min(images.shape[-2:]):
        sides = " x ".join(str(side) for side in images.shape[-2:])
        raise ValueError(f"a test's shift should be below the sides of its views, {sides}, not {shift}")
    found = [(1.0, images)]
    if shift:
        height, width = images.shape[-2:]
        wide = F.pad(images, (shift,) * 4, "reflect")
        corners = (0, 2 * shift)
        found = [(0.5, images), *((0.25, wide[..., k : k + height, k : k + width]) for k in corners)]
    if mirror:
        found = [(weight / 2, look) for weight, one in found for look in (one, one.flip(-1))]
    return found
