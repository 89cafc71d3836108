"""What a phase says about unlabelled images: label them and keep what is sure, or ask for consistency."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from budgetnet.augment import Erase, Flip, RandAugment, Step, Translate, listed

# budgetnet's and torchvision's steps that mix images.
_MIXING = ("Mixup", "Cutmix", "MixUp", "CutMix")


@dataclass(frozen=True)
class PseudoLabels:
    """
    For `Phase.pseudo`: before the phase the model labels the unlabelled images, and what it is sure of joins
    the training images.

    An image is kept when the model's largest probability, sharpened at `temperature`, is above `threshold`;
    of each class at most the `per_class` most confident. Below a temperature of 1 this is the same as a lower
    threshold (see `keep`), so the two are only meaningful together. Raises ValueError for a threshold outside
    [0, 1), a temperature that is not above 0, and fewer than one image a class. Reference: Lee,
    "Pseudo-Label", ICML 2013 workshop on challenges in representation learning.
    """

    threshold: float = 0.8
    temperature: float = 1.0
    per_class: int | None = None

    def __post_init__(self) -> None:
        check_keeping("PseudoLabels", self.threshold, self.temperature, self.per_class)


@dataclass(frozen=True)
class FixMatch:
    """
    For `Phase.pseudo`: at each step the label that the model gives to a weak view of an unlabelled image, if
    it is sure, is what it should say of a strong view.

    A batch of B labelled images goes with `ratio` * B unlabelled ones, whose loss (see `fixmatch_loss`) is
    added `weight` times. `weak` and `strong` are the steps of the two views. The strong one is by default the
    paper's up to what its RandAugment draws: here two operations of one magnitude, and a square erased.
    Raises ValueError for a threshold outside [0, 1), a weight that is not above 0, a ratio below 1, and steps
    that are none or that mix images, whose labels would no longer be known. Reference:
    https://arxiv.org/abs/2001.07685.
    """

    threshold: float = 0.95
    weight: float = 1.0
    ratio: int = 7
    weak: Sequence[Step] = (Flip(), Translate(0.125))
    strong: Sequence[Step] = (
        Flip(),
        Translate(0.125),
        RandAugment(2, 10, fill=0.5),
        Erase(1.0, scale=(0.02, 0.25), ratio=(1.0, 1.0), value=0.5),
    )

    def __post_init__(self) -> None:
        _below_one("FixMatch", "threshold", self.threshold)
        above_zero("FixMatch", "weight", self.weight)
        _whole("FixMatch", "ratio", self.ratio)
        for name in ("weak", "strong"):
            object.__setattr__(self, name, _steps(name, getattr(self, name)))


def _steps(name: str, given: object) -> tuple[Step, ...]:
    """The steps of one of FixMatch's views. Raises ValueError for what is none, and for mixing."""
    steps = listed("FixMatch", name, given)
    for step in steps:
        if type(step).__name__ in _MIXING:
            raise ValueError(
                f"FixMatch's {name} holds {step!r}, after which no image has one label: put what mixes into "
                "the phase's augment, which the labelled images see"
            )
    return steps


def _number(found: object) -> bool:
    """Whether `found` is an int or a float, and finite."""
    return isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)


def _below_one(owner: str, name: str, found: float) -> None:
    """Refuse what is no number in [0, 1)."""
    if not _number(found) or not 0 <= found < 1:
        raise ValueError(f"{owner}'s {name} should be a number from 0 to below 1, not {found!r}")


def above_zero(owner: str, name: str, found: float) -> None:
    """Refuse what is no finite number above 0."""
    if not _number(found) or found <= 0:
        raise ValueError(f"{owner}'s {name} should be a finite number above 0, not {found!r}")


def _whole(owner: str, name: str, found: object) -> None:
    """Refuse what is no whole number from 1."""
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise ValueError(f"{owner}'s {name} should be a whole number of 1 or more, not {found!r}")


def check_keeping(owner: str, threshold: float, temperature: float, per_class: int | None) -> None:
    """Refuse settings by which nothing can be kept."""
    _below_one(owner, "threshold", threshold)
    above_zero(owner, "temperature", temperature)
    if per_class is not None:
        _whole(owner, "per_class", per_class)
