"""Test: how images are shown to a model that is measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from budgetnet.augment import Step, listed
from budgetnet.values import true_or_false, whole


@dataclass(frozen=True)
class Test:
    """How a phase is validated: at `resize` x `resize` pixels, of which the central `crop` is looked at.

    Both default to the resolution that the phase ends at.

    With `mirror` the logits of each image and its mirror image are averaged. With a `shift` of so many pixels
    half of the weight goes to the image shifted up and left, and down and right, by so much, its edge
    reflected; with both each image is looked at six times. The saved model remembers both.

    The rest is for parity with work that validated in other ways: `augment` steps drawn `views` times for
    each image, and `batch_statistics=True`, which normalises by the batch as in training.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    resize: int | None = None
    crop: int | None = None
    augment: Sequence[Step] = ()
    views: int = 1
    batch_statistics: bool = False
    mirror: bool = False
    shift: int = 0

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            if getattr(self, name) is not None:
                whole(f"Test's {name}", getattr(self, name))
        whole("Test's views", self.views)
        whole("Test's shift", self.shift, 0)
        true_or_false("Test's mirror", self.mirror)
        if self.crop is not None and self.shift >= self.crop:
            raise ValueError(f"Test's shift should be below its crop of {self.crop} pixels, not {self.shift}")
        if self.resize is not None and self.crop is not None and self.resize < self.crop:
            raise ValueError(
                f"Test's resize should be at least its crop of {self.crop} pixels, not {self.resize}"
            )
        object.__setattr__(self, "augment", listed("Test", "augment", self.augment))

    def at(self, resolution: int) -> tuple[int, int]:
        """(resize, crop) in pixels for a phase that ends at `resolution`."""
        crop = self.crop or (min(self.resize, resolution) if self.resize else resolution)
        return max(self.resize or crop, crop), crop

    @property
    def plain(self) -> Self:
        """The same without what is for parity with other work."""
        return replace(self, augment=(), views=1, batch_statistics=False)

    @property
    def looks(self) -> int:
        """How often the model is shown each image."""
        return self.views * (2 if self.mirror else 1) * (3 if self.shift else 1)
