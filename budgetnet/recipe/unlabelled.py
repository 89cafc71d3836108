"""What a phase says about unlabelled images: label them and keep what is sure, or ask for consistency."""

from collections.abc import Sequence
from dataclasses import dataclass

from budgetnet.augment import Erase, Flip, RandAugment, Step, Translate, listed
from budgetnet.values import above_zero, share, whole

# budgetnet's and torchvision's steps that mix images.
_MIXING = ("Mixup", "Cutmix", "MixUp", "CutMix")


@dataclass(frozen=True)
class PseudoLabels:
    """For `Phase.pseudo`: before the phase the model labels the unlabelled images, and what it is sure of
    joins the training images.

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
        share("PseudoLabels's threshold", self.threshold)
        above_zero("PseudoLabels's temperature", self.temperature)
        if self.per_class is not None:
            whole("PseudoLabels's per_class", self.per_class)

    def most(self, unlabelled: int, classes: int) -> int:
        """How many of so many unlabelled images of so many classes are kept, at most."""
        return min(unlabelled, (self.per_class or unlabelled) * classes)


@dataclass(frozen=True)
class FixMatch:
    """For `Phase.pseudo`: at each step the label that the model gives to a weak view of an unlabelled image,
    if it is sure, is what it should say of a strong view.

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
        share("FixMatch's threshold", self.threshold)
        above_zero("FixMatch's weight", self.weight)
        whole("FixMatch's ratio", self.ratio)
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
