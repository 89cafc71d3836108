"""Within: whether what steps make of images stays where a test shows them, in [0, 1]."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from budgetnet.augment import foreign
from budgetnet.augment.pieces import unit
from budgetnet.augment.steps import Batch, Step
from budgetnet.augment.views import Group, act, full_precision, grouped
from budgetnet.randomness import own_randomness

OUTSIDE = 0.2
"""How far the pixels of images, or of black ones or white ones alone, may lie outside of [0, 1] on average.

Bicubic reads overshoot at edges, noise falls below black, and patches that are erased with noise reach 0.16
with torchvision's sizes. Of images that are normalised, black or white alone lies 0.4 outside or more.
"""
DARK = 0.02
"""Images whose brightest pixel becomes so small a part of what it was were scaled once too often."""


def check_within(
    steps: Sequence[Step], images: Tensor, labels: Tensor, *, resolution: int, classes: int
) -> None:
    """Refuse steps that are not ours and take images out of [0, 1], to NaN, or all but to black.

    They are tried on copies, on stored images uint8 (B, C, H, W) with labels int64 (B,) as `view` takes them,
    and on black and white ones; steps of this package stay within. Nothing is left of it in any generator.
    Raises ValueError naming the step, also where it fails or answers what is no such batch.
    """
    groups = grouped(steps)
    last = max((at for at, group in enumerate(groups) if _foreign(group)), default=-1)
    generator, sized = torch.Generator().manual_seed(0), False
    with torch.no_grad(), full_precision(images.device), own_randomness():
        for group in groups[: last + 1]:
            sized = sized or group.sizes
            tried = Group(group.kind, [_copied(step) for step in group.steps]) if _foreign(group) else group
            before = unit(images).clone()

            def made(some: Tensor, group: Group = tried, labels: Tensor = labels) -> Batch:
                asked = (resolution, resolution)
                return act([group], some, labels, asked, classes, generator, sized=sized)  # noqa: B023

            images, labels = made(images)
            if _foreign(group):
                _check(foreign.name(group.steps[0]), before, images)
                flat = torch.zeros_like(before)
                flat[::2] = 1
                _check_flat(foreign.name(group.steps[0]), made(flat)[0])


def _foreign(group: Group) -> bool:
    """Whether a group is a step that is not of this package, and free to answer what it likes."""
    return group.kind == "other" and not type(group.steps[0]).__module__.startswith("budgetnet.")


def _copied(step: Any) -> Any:
    # A step that counts its calls begins with the training.
    try:
        return copy.deepcopy(step)
    except Exception:
        return step


def _check(name: str, before: Tensor, after: Tensor) -> None:
    if not bool(after.isfinite().all()):
        raise ValueError(f"step {name} makes images of which some pixels are NaN or infinite: mend it")
    if _outside(after) > OUTSIDE:
        raise ValueError(_left(name, after))
    brightest, was = float(after.max()), float(before.max())
    if brightest < DARK * was and was > DARK:
        raise ValueError(
            f"step {name} makes images that are all but black, at most {brightest:.2g} where they were "
            f"{was:.2g}: images are floats in [0, 1] already and should stay so; leave out what scales them"
        )


def _check_flat(name: str, after: Tensor) -> None:
    halves = (after[::2], after[1::2])
    if bool(after.isfinite().all()) and any(len(half) and _outside(half) > OUTSIDE for half in halves):
        raise ValueError(_left(name, after))


def _outside(images: Tensor) -> float:
    return float((images - images.clamp(0, 1)).abs().mean())


def _left(name: str, images: Tensor) -> str:
    low, high = (float(end) for end in images.aminmax())
    return (
        f"step {name} takes images out of [0, 1], to {low:.2f} ... {high:.2f}, where tests and predictions "
        "show them in it: leave normalisation to the model (layers.standardise), or end the step with "
        ".clamp(0, 1)"
    )
