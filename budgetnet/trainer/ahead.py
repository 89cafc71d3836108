"""What the steps of an epoch read ahead: the training images, and for FixMatch the unlabelled ones."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from budgetnet.data.ahead import Ahead, reading
from budgetnet.pseudo import FixMatch
from budgetnet.recipe import Phase
from budgetnet.trainer.randomness import UNLABELLED, drawn
from budgetnet.trainer.training import Training


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
