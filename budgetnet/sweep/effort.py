"""Effort: how many seeds a search's trials have, how they are ended early, and how long all may take."""

import time
from dataclasses import dataclass

from budgetnet.recipe import Recipe
from budgetnet.sweep.capacity import Together
from budgetnet.text import seconds
from budgetnet.values import one_of, whole

HALVING, MEDIAN, HYPERBAND, NONE = "halving", "median", "hyperband", "none"
PRUNES = ("auto", HALVING, MEDIAN, HYPERBAND, NONE)
BY_EPOCH = (MEDIAN, HYPERBAND)
FACTOR = 3
"""Of so many trials one goes on from a stage of halving to the next, which is so many times as long."""
_STAGES = 3
_PASSES, _TRIALS = 3.0, 9
"""Passes over the data that halving's first stage has at least where it is chosen, and trials."""
_KEPT = 0.02
"""The part of a search's time that is kept for measuring the winner."""


@dataclass(frozen=True)
class Effort:
    """How much a search spends on each trial, and where its study lies.

    Each trial is trained with `seeds` seeds, whose mean counts. `prune` ends what promises too little:
    "median" and "hyperband" after an epoch of the first seed, by validation; "halving" trains the recipe at
    a ninth and a third of its length first, and of three trials one goes on; "auto" is halving where the
    recipe is long enough for it to pay, else "none". `within`, in seconds or as "8h", bounds the whole search
    from this start on. `storage` is the URL of a database for workers on many machines
    ("postgresql://user@host/name"), by default a file in the search's folder. `together` workers, or "auto",
    take trials on this machine; or the tasks of a Cluster do.
    """

    seeds: int = 1
    prune: str = "auto"
    within: float | str | None = None
    storage: str | None = None
    together: Together = 1

    def __post_init__(self) -> None:
        whole("seeds", self.seeds)
        one_of("a search's prune", self.prune, PRUNES)
        seconds(self.within, "within")

    def until(self) -> float | None:
        """When training is to end, by the monotonic clock."""
        limit = seconds(self.within, "within")
        return None if limit is None else time.monotonic() + (1 - _KEPT) * limit


@dataclass(frozen=True)
class Rung:
    """A stage of a trial: the recipe at a `scale`; `step` is its length, the first one's being 1."""

    scale: float
    step: int

    def __str__(self) -> str:
        return (
            "the whole recipe" if self.scale == 1 else f"a {'third' if self.scale > 0.2 else 'ninth'} of it"
        )


def rungs(prune: str) -> tuple[Rung, ...]:
    """The stages of a trial, the last of which is the recipe as it is."""
    stages = _STAGES if prune == HALVING else 1
    return tuple(Rung(1 / FACTOR ** (stages - 1 - at), FACTOR**at) for at in range(stages))


def chosen(prune: str, recipe: Recipe, trials: int, *, many: bool) -> str:
    """The way of pruning that is asked for, or that pays. Raises ValueError for one that cannot be."""
    if many and prune not in ("auto", NONE):
        raise ValueError(
            f"trials are pruned by one figure, and a search against costs has several: leave prune={prune!r} "
            "(--prune) out"
        )
    if prune != "auto":
        return prune
    passes = sum(phase.epochs * phase.views for phase in recipe.phases)
    short = recipe.scaled(rungs(HALVING)[0].scale)
    shorter = sum(phase.epochs * phase.views for phase in short.phases) <= passes / FACTOR
    pays = trials >= _TRIALS and passes * rungs(HALVING)[0].scale >= _PASSES and shorter
    return HALVING if pays and not many else NONE
