"""The checks that the room of pseudo-labels shares; a refusal says who expected what, and what was found."""

import math

import torch
from torch import Tensor


def number(found: object) -> bool:
    """Whether `found` is an int or a float, and finite."""
    return isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)


def below_one(owner: str, name: str, found: float) -> None:
    """Refuse what is no number in [0, 1)."""
    if not number(found) or not 0 <= found < 1:
        raise ValueError(f"{owner}'s {name} should be a number from 0 to below 1, not {found!r}")


def above_zero(owner: str, name: str, found: float) -> None:
    """Refuse what is no finite number above 0."""
    if not number(found) or found <= 0:
        raise ValueError(f"{owner}'s {name} should be a finite number above 0, not {found!r}")


def whole(owner: str, name: str, found: object) -> None:
    """Refuse what is no whole number from 1."""
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise ValueError(f"{owner}'s {name} should be a whole number of 1 or more, not {found!r}")


def check_keeping(owner: str, threshold: float, temperature: float, per_class: int | None) -> None:
    """Refuse settings by which nothing can be kept."""
    below_one(owner, "threshold", threshold)
    above_zero(owner, "temperature", temperature)
    if per_class is not None:
        whole(owner, "per_class", per_class)


def check_probabilities(owner: str, found: Tensor) -> None:
    """Refuse what are no probabilities over the last dimension."""
    if found.is_floating_point() and found.ndim and found.shape[-1]:
        # What is summed in half precision is this far from one.
        tolerance = 1e-4 if torch.finfo(found.dtype).eps < 1e-5 else 2e-2
        sums = found.double().sum(dim=-1)
        if bool((found >= 0).all()) and bool(((sums - 1).abs() <= tolerance).all()):
            return
    shape = f"{str(found.dtype).removeprefix('torch.')} {tuple(found.shape)}"
    raise ValueError(
        f"{owner} takes probabilities, at least 0 and with rows that sum to one, found {shape} that are not: "
        "apply softmax to logits"
    )
