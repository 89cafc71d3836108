"""Test: how images are shown to a model that is measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from budgetnet.augment import Step, listed
from budgetnet.recipe.check import whole


@dataclass(frozen=True)
class Test:
    """How a phase is validated: shorter side to `resize` pixels, then the central `crop`.

    Both default to the resolution that the phase ends at.

    The rest is for parity with work that validated in other ways: `augment` steps drawn `views` times for
    each image, and `batch_statistics=True`, which normalises by the batch as in training.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    resize: int | None = None
    crop: int | None = None
    augment: Sequence[Step] = ()
    views: int = 1
    batch_statistics: bool = False

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            if getattr(self, name) is not None:
                whole("Test", name, getattr(self, name))
        whole("Test", "views", self.views)
        if self.resize is not None and self.crop is not None and self.resize < self.crop:
            raise ValueError(
                f"Test's resize should be at least its crop of {self.crop} pixels, not {self.resize}"
            )
        object.__setattr__(self, "augment", listed("Test", "augment", self.augment))

    def at(self, resolution: int) -> tuple[int, int]:
        """(resize, crop) in pixels for a phase that ends at `resolution`."""
        crop = self.crop or (min(self.resize, resolution) if self.resize else resolution)
        return max(self.resize or crop, crop), crop
