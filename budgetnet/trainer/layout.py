"""Layout: images that go to the network as they are stored are kept as a CPU's convolutions read them."""

from budgetnet.data import Data, Split
from budgetnet.data.ahead import at_hand
from budgetnet.data.interleaved import Interleaved
from budgetnet.data.memory import SHARE, free
from budgetnet.recipe import Phase, Recipe

LARGEST = 1 << 25
"""Bytes of a split's images at most that a second copy is made of; no more than a share of what is free.

That is 10,000 images of 32 x 32: what tiny networks, to which it matters, learn from.
"""


def interleaved(data: Data, recipe: Recipe) -> dict[str, Interleaved]:
    """Copies of the splits that the epochs train on and measure, by name, where nothing acts on the images.

    To turn each batch into channels_last takes 4 % of a tiny network's step. What augments or resizes wants
    rows of pixels instead. Values and bits are the same.
    """
    if not all(_as_stored(phase, data.train) for phase in recipe.phases):
        return {}
    names = {"train", *recipe.measure}
    return {name: Interleaved(split) for name, split in data.splits.items() if name in names and _pays(split)}


def _as_stored(phase: Phase, train: Split) -> bool:
    """Whether all that a phase shows are the stored images, neither augmented nor resized."""
    test = phase.test
    if phase.augment or test.augment or test.views > 1 or phase.pseudo is not None:
        return False
    sizes = (phase.resolution, *test.at(phase.last_resolution))
    return all(size == side for size in sizes for side in train.shape[2:])


def _pays(split: Split) -> bool:
    if split.device.type != "cpu" or not at_hand(split) or split.shape[1] == 1:
        return False
    return split.images.numel() <= min(LARGEST, SHARE * free())
