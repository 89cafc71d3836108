"""Pieces: a batch that goes through the model in parts, with the gradient of the whole, whatever its loss."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from budgetnet.engine.batch import Batch, figures_of, loss_of
from budgetnet.engine.speed import BACKWARD, FORWARD
from budgetnet.engine.training import Training
from budgetnet.randomness import reseed
from budgetnet.recipe import Phase

# A loss need not be the mean of its images': classes weigh, labels are left out, images are compared. So the
# parts go through the model twice, first for the logits of all, then for their share of the gradient.


def joined(pieces: Sequence[Tensor], sizes: Sequence[Sequence[int]]) -> Tensor:
    """The logits of a batch from those of its parts, of which each kind of view has so many in each part."""
    split = [torch.split(piece, list(each)) for piece, each in zip(pieces, sizes, strict=True)]
    return torch.cat([torch.cat(kind) for kind in zip(*split, strict=True)])


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """What moves the statistics of the model within it has not moved them after it."""
    before = [(held, held.clone()) for held in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for held, value in before:
                held.copy_(value)


def gradient_in_parts(training: Training, phase: Phase, batch: Batch, seed: int) -> Tensor:
    """Leave the gradient of a batch in the parameters, as of `training.state.parts` parts; its figures, (3,).

    What the model draws is drawn from `seed`, the same both times. Batch norms see the parts.
    """
    parts = list(batch.parts(training.state.parts))
    training.state.clock.mark(FORWARD)
    with buffers_kept(training.model):
        reseed(training.engine.device, seed)
        # With the graph, which goes at once: without one a compiled model may draw otherwise.
        pieces = [_logits(training, part).detach().requires_grad_() for part in parts]
    whole = joined(pieces, [part.sizes for part in parts])
    loss, logits, share = loss_of(training, phase, batch, whole)
    training.state.clock.mark(BACKWARD)
    loss.backward()  # type: ignore[no-untyped-call]
    reseed(training.engine.device, seed)
    for part, piece in zip(parts, pieces, strict=True):
        training.state.clock.mark(FORWARD)
        again = _logits(training, part)
        training.state.clock.mark(BACKWARD)
        again.backward(piece.grad)  # type: ignore[no-untyped-call]
    return figures_of(loss, logits, batch.labels, share)


def _logits(training: Training, part: Batch) -> Tensor:
    return training.engine.forward(training.network, part.shown).float()
