"""Doubts: what one step shows that trains and is hardly meant, a sentence for each."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from budgetnet.augment import Step, check_within
from budgetnet.data import Data
from budgetnet.engine.memory import out_of_memory
from budgetnet.engine.step import Batch
from budgetnet.engine.training import Training
from budgetnet.recipe import FixMatch, Phase, Recipe

_ENDS = {"Softmax": "softmax", "Sigmoid": "sigmoid", "Relu": "ReLU", "Tanh": "tanh"}
"""Operations that do not belong behind the last layer of a model whose loss takes logits."""


def doubts(training: Training, batch: Batch, logits: Tensor) -> Iterator[str]:
    """What is odd about the loss of a training, from the logits (N, K), with their graph, of a trial step.

    It is told by how the loss answers to logits that are moved.
    """
    rows = len(batch.images)
    outputs, labels, loss = logits.detach()[:rows].float(), batch.labels, training.recipe.loss

    def at(moved: Tensor, labels: Tensor = labels) -> float:
        with torch.no_grad():
            return float(loss(moved, labels))

    try:
        level, once, twice = at(outputs), at(outputs + 1), at(outputs + 2)
        double = at(torch.cat([outputs, outputs]), torch.cat([labels, labels]))
    except Exception:
        # A loss that takes only what the model itself gives says nothing of this.
        return
    near = 1e-3 * (1 + abs(level))
    if abs(once - level) < near and abs(twice - level) < near:
        yield from _ended(outputs, logits)
    elif once - level < -0.5 and abs(twice - level - 2 * (once - level)) < near and not _logs(outputs):
        yield (
            "the loss takes logarithms of probabilities (NLLLoss does), and the model gives logits: such a "
            "loss falls without end; take CrossEntropyLoss, or end the model with log_softmax"
        )
    if rows > 1 and abs(level) > near and abs(double - 2 * level) < near:
        yield (
            "the loss adds up over the batch (twice the images, twice the loss): the learning rate then "
            f"means {training.recipe.batch_size} times what it does for a mean, and the loss's figures grow "
            "with the batch; take reduction='mean'"
        )


def _ended(outputs: Tensor, logits: Tensor) -> Iterator[str]:
    """Whether the model ends with what a loss that takes logits does itself, or what cuts logits off."""
    sums = outputs.sum(dim=1)
    softmax = bool((outputs >= 0).all()) and bool(((sums - 1).abs() < 1e-2).all())
    last = "" if logits.grad_fn is None else logits.grad_fn.name().removesuffix("Backward0")
    last = "Softmax" if softmax and outputs.shape[1] > 1 else last
    if last in _ENDS:
        yield (
            f"the model ends with a {_ENDS[last]}, and its loss takes logits, of which it makes "
            f"probabilities itself: what is learnt is flattened; leave out the {_ENDS[last]}"
        )


def _logs(outputs: Tensor) -> bool:
    """Whether these are logarithms of probabilities already."""
    return bool((outputs.logsumexp(dim=1).abs() < 1e-2).all())


TRIED = 16
"""So many images the steps are tried on, where they are not of this package."""


def check_views(data: Data, recipe: Recipe, device: torch.device) -> None:
    """Refuse steps of any phase whose views are not what a test shows; raises ValueError naming both."""
    rows = torch.linspace(0, len(data.train) - 1, min(len(data.train), TRIED)).round().long()
    images, labels = (each.to(device) for each in data.train[rows])
    tried: set[tuple[int, ...]] = set()
    for number, phase in enumerate(recipe.phases, start=1):
        for steps, resolution in _listed(phase):
            if tuple(map(id, steps)) in tried:
                continue
            tried.add(tuple(map(id, steps)))
            try:
                check_within(steps, images, labels, resolution=resolution, classes=len(data.classes))
            except ValueError as error:
                raise ValueError(f"phase {number}: {error}") from error.__cause__
            except Exception as error:
                # Of what runs out of memory a training says more.
                if not out_of_memory(error):
                    raise


def _listed(phase: Phase) -> Iterator[tuple[Sequence[Step], int]]:
    """The lists of steps of a phase, each with the resolution of its views."""
    resolution, pseudo = phase.resolution_at(0.0), phase.pseudo
    yield phase.augment, resolution
    yield phase.test.augment, phase.test.at(phase.last_resolution)[1]
    if isinstance(pseudo, FixMatch):
        yield pseudo.weak, resolution
        yield pseudo.strong, resolution
