"""Sources: the images that steps read: stored, read ahead, or labelled by the model itself."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from budgetnet.data import MEMORY_SHARE, Ahead, Data, Interleaved, Split, at_hand, free_memory, reading
from budgetnet.engine.measure import answers
from budgetnet.engine.randomness import TEST, UNLABELLED, drawn, own_randomness, reseed
from budgetnet.engine.training import Training
from budgetnet.pseudo import Kept, join, keep
from budgetnet.recipe import FixMatch, Phase, PseudoLabels, Recipe
from budgetnet.run import Note

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
    return split.images.numel() <= min(LARGEST, MEMORY_SHARE * free_memory())


@dataclass(frozen=True)
class Sources:
    """Where the steps of an epoch read their images: each gives those at some positions, with labels."""

    train: Split | Ahead | Interleaved
    unlabelled: Split | Ahead | Interleaved | None = None


@contextmanager
def reading_ahead(training: Training, phase: Phase, batches: list[Tensor]) -> Iterator[Sources]:
    """Where the coming steps, whose positions are `batches`, read: ahead where it is not on the device."""
    state, how, pool = training.state, phase.pseudo, training.data.unlabelled
    with ExitStack() as stack:
        train = stack.enter_context(reading(state.train, batches))
        if not isinstance(train, Ahead):
            train = training.execution.interleaved.get("train") or train
        if not isinstance(how, FixMatch) or pool is None:
            yield Sources(train)
            return
        steps = enumerate(batches, start=state.step)
        rows = (unlabelled(training, how, len(chosen), step)[0] for step, chosen in steps)
        yield Sources(train, stack.enter_context(reading(pool, rows)))


def unlabelled(training: Training, how: FixMatch, images: int, step: int) -> tuple[Tensor, torch.Generator]:
    """Positions of the unlabelled images of a step, and the generator that its views go on with."""
    assert training.data.unlabelled is not None
    generator = torch.Generator().manual_seed(drawn(training.seed, UNLABELLED, step))
    count = len(training.data.unlabelled)
    return torch.randint(count, (how.ratio * images,), generator=generator), generator


BATCH = 256
"""Images that are labelled at once."""


def label(training: Training, phase: Phase, how: PseudoLabels) -> Kept:
    """Label the unlabelled images with the weights at hand, tested as the phase is."""
    pool = training.data.unlabelled
    assert pool is not None
    resize, crop = phase.test.at(phase.last_resolution)
    batches = torch.split(torch.arange(len(pool)), BATCH)
    device = training.engine.device
    with own_randomness(device), reading(pool, batches) as source:
        reseed(device, drawn(training.seed, TEST, training.state.step))
        labels, probabilities = answers(
            training.measured,
            (source[chosen][0] for chosen in batches),
            engine=training.engine,
            resize=resize,
            crop=crop,
            test=phase.test,
            chunks=training.execution.chunks,
        )
    return keep(probabilities, how.threshold, how.temperature, how.per_class, labels=labels)


def joining(training: Training, how: PseudoLabels) -> Note:
    """What joins the phase at hand, in words."""
    kept, pool = training.state.labelled, training.data.unlabelled
    assert kept is not None
    assert pool is not None
    of_all = f"{len(kept):,} of {len(pool):,} unlabelled images"
    sure = f"the model is sure of above {how.threshold:g} (temperature {how.temperature:g})"
    return Note("labels", f"{of_all} join phase {training.state.phase} with the labels that {sure}")


def joined(training: Training) -> Split:
    """The training images of the phase at hand: the data's own, and those labelled before it."""
    train, pool, labelled = training.data.train, training.data.unlabelled, training.state.labelled
    if labelled is None or pool is None or not len(labelled):
        return train
    return join(train, pool, labelled)
