"""How a trained model is shown images, as its card says: which part, at which size, under which names."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from budgetnet.data import DataError, OnDisk, Split
from budgetnet.data.naming import is_numbered
from budgetnet.modelfile import Card
from budgetnet.recipe import Test


def tested(known: Card | None, test: Test | None, resolution: int | None) -> tuple[Test, int]:
    """How a model is tested, and for which resolution in pixels: as asked, else as its card says.

    Raises ValueError where nobody says at which size.
    """
    known = known or Card()
    looked = test or Test(mirror=known.mirror, shift=known.shift)
    if resolution is None and looked.resize is None and looked.crop is None:
        looked = replace(looked, resize=known.resize, crop=known.crop)
    size = resolution or looked.crop or known.crop or looked.resize
    if size is None:
        raise ValueError(
            "this model has no card that says at which resolution it is to be tested: give resolution=, in "
            "pixels, as it learnt at"
        )
    return looked, size


def part(images: Tensor | OnDisk, known: Card | None) -> Tensor | OnDisk:
    """The part of images (N, C, H, W) that the model's own data would show of them.

    That is the largest part at the centre with the sides of its stored images, or all where they were
    squeezed. Of a model without a card nothing is known: all is shown.
    """
    height, width = images.shape[-2:]
    if known is None or known.shape == "squash":
        return images
    high, wide = known.stored or (1, 1)
    if height * wide == width * high:
        return images
    down, across = min(height, round(width * high / wide)), min(width, round(height * wide / high))
    down, across = max(1, down), max(1, across)
    top, left = (height - down) // 2, (width - across) // 2
    pixels = images.tensor() if isinstance(images, OnDisk) else images
    return pixels[..., top : top + down, left : left + across].contiguous()


def measured(split: Split, known: Card | None, classes: Sequence[str]) -> tuple[Split, tuple[str, ...]]:
    """A split as a model is measured on it: its labels as the model counts classes, and their names in order.

    `classes` name the model's outputs, else its card does, else the split. Raises ValueError for an empty
    split, images without labels, and labels of other names.
    """
    if not isinstance(split, Split):
        raise ValueError(f"a model is measured on a Split such as data.val, not on {split!r:.100}")
    if not len(split):
        raise ValueError("the split that a model is measured on should hold images, and is empty")
    lowest, highest = (int(end) for end in split.labels.aminmax())
    if lowest < 0:
        raise ValueError("a model is measured on images with labels, and some of these have none (-1)")
    names = tuple(classes) or (known.classes if known is not None else ()) or split.classes
    names = names or tuple(str(k) for k in range(highest + 1))
    # Whoever names the outputs says what numbers stand for.
    counted = bool(classes) and is_numbered(split.classes)
    try:
        split = split if counted else split.named(names)
    except DataError as error:
        raise ValueError(
            f"{error} of the model: measure it on what it tells apart, or give classes=, what its outputs "
            "are called in these data, in order"
        ) from None
    if highest >= len(names) and (counted or not split.classes):
        raise ValueError(f"the split has a label {highest}, and the model {len(names)} classes, from 0")
    return replace(split, images=part(split.images, known)), names
