"""Whether the views of all phases are what a test could show, found before the first step."""

from collections.abc import Iterator, Sequence

import torch

from budgetnet.augment import Step, check_within
from budgetnet.data import Data
from budgetnet.pseudo import FixMatch
from budgetnet.recipe import Phase, Recipe
from budgetnet.trainer.memory import out_of_memory

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
