"""How a batch of stored images becomes a view: which steps act together, in which order, at which size."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from budgetnet.augment import foreign, read
from budgetnet.augment.colour import Jitter, combine, recolouring
from budgetnet.augment.mirror import MIRRORS
from budgetnet.augment.pieces import Pass, in_pieces, unit
from budgetnet.augment.steps import REFLECT, Act, Batch, Colour, Step, Warp, fill_of
from budgetnet.augment.window import Window
from budgetnet.values import whole


@dataclass(frozen=True)
class Group:
    """Steps that act together; `sizes` says that the images leave it at the resolution asked for."""

    kind: Literal["warp", "colour", "other"]
    steps: list[Any]
    sizes: bool = False


def view(
    images: Tensor,
    labels: Tensor,
    steps: Sequence[Step],
    *,
    resolution: int,
    classes: int,
    generator: Generator,
    window: Window | None = None,
) -> Batch:
    """Make one view of each stored image: uint8 (B, C, H, W) to float32 (B, C, r, r) in [0, 1], and labels.

    Steps act in the order of the list, with parameters drawn for each image. Consecutive warps are one read,
    and consecutive linear colour steps one matrix; flips commute with colours and join the read before them.
    The first warp that is more than a flip reads the stored image straight at resolution x resolution; what
    stands before it acts on the stored size, what comes later at the resolution. Without such a warp the
    images are first resized with antialias, exactly as torchvision does. Images that are not square are
    squeezed into a square, as by torchvision's `Resize((r, r))`, in training and in `test_view` alike: what
    moves pixels acts on them as if they had been stored so, at their shorter side.

    A `torchvision.transforms.v2` module, or any callable, is called as step(images, labels), or step(images)
    where it takes one argument, on the float batch. Most of torchvision's draw one set of parameters for the
    whole batch. `MixUp` and `CutMix` want whole-number labels, and `num_classes`. They draw from torch's own
    generators, which are seeded from `generator` for the call and put back.

    Nothing here waits for the device, and the same generator state gives the same view on any number of
    threads.

    Args:
        images: uint8 (B, C, H, W), on any device.
        labels: int64 (B,), or probabilities (B, K), on the same device.
        steps: see `Step`.
        resolution: r, the side of the views, in pixels.
        classes: K.
        generator: on the CPU; all parameters are drawn from it.
        window: which rows of a batch the images are; parameters are then drawn as for all of it.

    Returns:
        The views, and the labels as they were, or (B, K) probabilities where a step mixes images.

    Raises:
        ValueError: images or labels are not as above, or a step fails or answers something else.

    Example:
        >>> images, labels = torch.zeros(8, 3, 96, 96, dtype=torch.uint8), torch.arange(8)
        >>> steps = [Rotate(45), Crop(), Jitter(0.3, 0.3, 0.3, 0.3), Flip()]
        >>> generator = torch.Generator().manual_seed(0)
        >>> view(images, labels, steps, resolution=70, classes=10, generator=generator)[0].shape
        torch.Size([8, 3, 70, 70])
    """
    check_view(images, labels, resolution, classes, generator)
    asked = (resolution, resolution)
    if not steps and images.shape[-2:] == asked:
        return unit(images), labels
    with torch.no_grad(), full_precision(images.device):
        return act(grouped(steps), images, labels, asked, classes, generator, window=window)


def act(
    groups: Sequence[Group],
    images: Tensor,
    labels: Tensor,
    asked: read.Size,
    classes: int,
    generator: Generator,
    *,
    sized: bool = False,
    window: Window | None = None,
) -> Batch:
    """What groups of steps make of images and labels; `sized` says that the images are of their size."""
    passes: list[Pass] = []
    count = len(images) if window is None else window.count
    through = in_pieces if window is None else window.through
    for group in groups:
        sized = sized or group.sizes
        if group.kind != "other":
            stored = passes[-1].size if passes else (images.shape[-2], images.shape[-1])
            shape = (count, images.shape[1], *stored)
            size = asked if sized else stored
            if group.kind == "warp":
                passes.append(read.warp(shape, group.steps, size, generator, images.device))
            else:
                matrices = combine(group.steps, generator, *shape[:2])
                passes.append(recolouring(matrices, size, images.device))
            continue
        images, passes = unit(through(passes, images)), []
        (step,) = group.steps
        other = partial(_other, step, classes=classes, generator=generator)
        images, labels = other(images, labels) if window is None else window.act(step, other, images, labels)
        if sized and tuple(images.shape[-2:]) != asked:
            raise ValueError(
                f"step {foreign.name(step)} answers images of {tuple(images.shape[-2:])} pixels where the "
                f"resolution is {asked[0]}: leave sizes to the resolution"
            )
    return through(passes, images), labels


def test_view(images: Tensor, *, resize: int, crop: int) -> Tensor:
    """Make the view that a test sees: uint8 (B, C, H, W) to float32 (B, C, crop, crop) in [0, 1].

    Exactly torchvision's `Resize((resize, resize))` on float images, bilinear with antialias, which squeezes
    images that are not square as `view` does, and then its `CenterCrop(crop)`.

    Raises:
        ValueError: images are not as above, or the crop is larger than what it is cut from.
    """
    _check_images(images)
    whole("resize", resize)
    whole("crop", crop)
    if crop > resize:
        raise ValueError(f"crop {crop} is larger than the side {resize} of what it is cut from")
    with torch.no_grad(), full_precision(images.device):
        images = read.resize(images, (resize, resize))
    edge = round((resize - crop) / 2)
    return images[..., edge : edge + crop, edge : edge + crop]


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
    views = [(1.0, images)]
    if shift:
        height, width = images.shape[-2:]
        wide = F.pad(images, (shift,) * 4, "reflect")
        corners = (0, 2 * shift)
        views = [(0.5, images), *((0.25, wide[..., k : k + height, k : k + width]) for k in corners)]
    if mirror:
        views = [(weight / 2, look) for weight, one in views for look in (one, one.flip(-1))]
    return views


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Within it nothing is rounded to fewer bits."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _other(step: Any, images: Tensor, labels: Tensor, *, classes: int, generator: Generator) -> Batch:
    if isinstance(step, Act):
        views, labels = step.act(images, labels, classes=classes, generator=generator)
        return foreign.checked_images(step, views, images), labels
    if callable(step):
        return foreign.call(step, images, labels, classes, generator)
    raise ValueError(
        f"step {foreign.name(step)} is no step: give one of budgetnet's, a torchvision.transforms.v2 module, "
        f"or a function (images, labels) -> (images, labels)"
    )


def _kind(step: Step) -> Literal["warp", "colour", "other"]:
    if isinstance(step, Warp):
        return "warp"
    if isinstance(step, Colour) and not (isinstance(step, Jitter) and step.exact_hue):
        return "colour"
    return "other"


def _joins(step: Step, group: Group) -> bool:
    """Whether a step can be read together with those before it: what reflects must see the image itself."""
    return fill_of(step) != REFLECT or all(isinstance(one, MIRRORS) for one in group.steps)


def grouped(steps: Sequence[Step]) -> list[Group]:
    """The steps in groups that act together, in order; exactly one group brings the images to their size."""
    groups: list[Group] = []
    for step in steps:
        kind = _kind(step)
        if isinstance(step, MIRRORS) and groups and groups[-1].kind == "colour":
            # A mirror moves pixels and keeps their mean: it commutes with colours, and saves a pass.
            if len(groups) == 1 or groups[-2].kind != "warp":
                groups.insert(len(groups) - 1, Group("warp", []))
            groups[-2].steps.append(step)
        elif groups and groups[-1].kind == kind and kind != "other" and _joins(step, groups[-1]):
            groups[-1].steps.append(step)
        else:
            groups.append(Group(kind, [step]))
    moves = [any(not isinstance(step, MIRRORS) for step in group.steps) for group in groups]
    sizing = [index for index, group in enumerate(groups) if group.kind == "warp" and moves[index]]
    if sizing:
        groups[sizing[0]] = Group("warp", groups[sizing[0]].steps, sizes=True)
    elif groups and groups[0].kind == "warp":
        groups[0] = Group("warp", groups[0].steps, sizes=True)
    else:
        groups.insert(0, Group("warp", [], sizes=True))
    return groups


def check_view(images: Tensor, labels: Tensor, resolution: int, classes: int, generator: Generator) -> None:
    """Raise ValueError unless these are what `view` takes."""
    _check_images(images)
    if tuple(labels.shape) not in ((len(images),), (len(images), classes)):
        raise ValueError(
            f"labels should be of shape ({len(images)},) or ({len(images)}, {classes}), "
            f"not {tuple(labels.shape)}"
        )
    whole("resolution", resolution)
    if generator.device.type != "cpu":
        raise ValueError(f"generator should be on the CPU, not on {generator.device}: torch.Generator()")


def _check_images(images: Tensor) -> None:
    if images.dtype == torch.uint8 and images.ndim == 4 and images.numel() > 0:
        return
    raise ValueError(
        f"images should be uint8 of shape (B, C, H, W) with at least one pixel, "
        f"not {images.dtype} {tuple(images.shape)}"
    )
