"""Layout: images that go to the network as they are stored are kept as a CPU's convolutions read them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from budgetnet.data import MEMORY_SHARE, Ahead, Data, Interleaved, Split, at_hand, free_memory, reading
from budgetnet.engine.measure import answers
from budgetnet.engine.randomness import TEST, UNLABELLED, drawn, own_randomness, reseed
from budgetnet.engine.training import Training
from budgetnet.files import reason
from budgetnet.pseudo import FixMatch, Kept, PseudoLabels, join, keep, write_csv
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
    return split.images.numel() <= min(LARGEST, MEMORY_SHARE * free_memory())


@contextmanager
def reading_ahead(training: Training, phase: Phase, batches: list[Tensor]) -> Iterator[None]:
    """Read the images of the coming steps ahead where they are not on the device; `batches` of positions."""
    how, pool, first = phase.pseudo, training.data.unlabelled, training.step
    with ExitStack() as stack:
        found = stack.enter_context(reading(training.train, batches))
        training.ahead = found if isinstance(found, Ahead) else None
        if isinstance(how, FixMatch) and pool is not None:
            steps = enumerate(batches, start=first)
            rows = (unlabelled(training, how, len(chosen), step)[0] for step, chosen in steps)
            found = stack.enter_context(reading(pool, rows))
            training.pool_ahead = found if isinstance(found, Ahead) else None
        try:
            yield
        finally:
            training.ahead = training.pool_ahead = None


def unlabelled(training: Training, how: FixMatch, images: int, step: int) -> tuple[Tensor, torch.Generator]:
    """Positions of the unlabelled images of a step, and the generator that its views go on with."""
    assert training.data.unlabelled is not None
    generator = torch.Generator().manual_seed(drawn(training.seed, UNLABELLED, step))
    count = len(training.data.unlabelled)
    return torch.randint(count, (how.ratio * images,), generator=generator), generator


BATCH = 256


def label(training: Training, number: int, phase: Phase, how: PseudoLabels) -> Kept:
    """Label the unlabelled images with the weights at hand, tested as the phase is.

    What is kept is listed in the run's folder, in pseudo-labels-N.csv for phase N.
    """
    pool = training.data.unlabelled
    assert pool is not None
    resize, crop = phase.test.at(phase.last_resolution)
    batches = torch.split(torch.arange(len(pool)), BATCH)
    device = training.engine.device
    with own_randomness(device), reading(pool, batches) as source:
        reseed(device, drawn(training.seed, TEST, training.step))
        labels, found = answers(
            training.measured,
            (source[chosen][0] for chosen in batches),
            engine=training.engine,
            resize=resize,
            crop=crop,
            test=phase.test,
            portions=training.portions,
        )
    kept = keep(found, how.threshold, how.temperature, how.per_class, labels=labels)
    of_all = f"{len(kept):,} of {len(pool):,} unlabelled images"
    sure = f"the model is sure of above {how.threshold:g} (temperature {how.temperature:g})"
    where = ""
    if training.folder is not None:
        path = training.folder / f"pseudo-labels-{number}.csv"
        try:
            write_csv(path, kept, pool, training.data.classes)
            where = f"; they are listed in {path}"
        except OSError as error:
            where = f"; {path}, their list, could not be written: {reason(error)}"
    training.watch.say(f"{of_all} join phase {number} with the labels that {sure}{where}")
    return kept


def joined(training: Training) -> Split:
    """The training images of the phase at hand: the data's own, and those labelled before it."""
    train, pool, labelled = training.data.train, training.data.unlabelled, training.labelled
    if labelled is None or pool is None or not len(labelled):
        return train
    return join(train, pool, labelled)
