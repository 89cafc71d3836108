"""Training: what one training holds while it goes, and where it is."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.augment import FusedViews
from budgetnet.console import Watch
from budgetnet.data import Ahead, Data, Interleaved, Split
from budgetnet.engine.hidden import Hidden
from budgetnet.engine.measure import Engine, Evaluation
from budgetnet.engine.memory import Portions
from budgetnet.engine.parts import Average
from budgetnet.engine.randomness import SESSION, mixed
from budgetnet.engine.speed import Clock, Compiled
from budgetnet.pseudo import Kept as Labelled
from budgetnet.recipe import Phase, Recipe
from budgetnet.run import Epoch, Run


class TrainingFailed(RuntimeError):
    """A training that cannot go on: what happened, where, and what is left."""


class NotWritten(TrainingFailed):
    """A training whose end could not be written to its folder; `run` has the trained model."""

    def __init__(self, text: str, run: Run) -> None:
        super().__init__(text)
        self.run = run


class NotFinite(TrainingFailed):
    """A training in which a number became NaN or infinite: which, and in which step."""


@dataclass(frozen=True)
class Kept:
    """Weights as they were after an epoch; `validation` is theirs, where it was measured."""

    state: dict[str, Tensor]
    epoch: Epoch
    validation: Evaluation | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better: validation accuracy, then the lower loss."""
        accuracy = self.epoch.val_accuracy
        return (-math.inf if math.isnan(accuracy) else accuracy, -self.epoch.val_loss)


@dataclass
class Training:
    """The model, its average and optimizer, the history of this session, the weights kept, and the place.

    `phase` counts from 1 and is 0 before the first; `done` steps of the epoch at hand are behind, whose sums
    of loss, accuracy and pseudo-labelled share are `sums`, (3,) on the device; `step` counts all steps.
    A batch goes through the model in `parts`, where the memory does not suffice for it; not where others use
    the memory too and it is not `alone`: then it is tried again when it is. Steps call what the model was
    `compiled` to, if it was, and make their views by `fused`, where that is compiled.
    `train` are the training images of the phase: the data's, and those with pseudo-labels, `labelled`.
    `clock` adds up where the time of the epoch's steps goes.
    `ahead` and `pool_ahead` hold the epoch's batches of them and of the unlabelled images, where those are
    read ahead; `interleaved` copies of splits, by name, which are read instead of them.
    `undone` are the steps, counted from 0, that left what was not finite and were taken back (BackOff).
    `hidden` knows what no state_dict holds, as it was before the first step; of what a checkpoint held of it,
    `unrestored` waits for the phase's optimizer.
    `portions` say how images go through the model where nothing is learnt.
    `contract` says what must be the same for the training to go on exactly.
    """

    model: nn.Module
    data: Data
    recipe: Recipe
    engine: Engine
    watch: Watch
    train: Split
    folder: Path | None = None
    contract: dict[str, Any] = field(default_factory=dict)
    session: int = 1
    earlier: tuple[Epoch, ...] = ()
    average: Average | None = None
    optimizer: torch.optim.Optimizer | None = None
    optimizer_state: dict[int, dict[str, Any]] | None = None
    history: list[Epoch] = field(default_factory=list)
    last: Kept | None = None
    best: Kept | None = None
    best_of_phase: Kept | None = None
    labelled: Labelled | None = None
    phase: int = 0
    done: int = 0
    step: int = 0
    sums: Tensor | None = None
    spent: float = 0.0
    parts: int = 1
    compiled: Compiled | None = None
    fused: FusedViews | None = None
    clock: Clock = field(default_factory=Clock)
    ahead: Ahead | None = None
    pool_ahead: Ahead | None = None
    interleaved: dict[str, Interleaved] = field(default_factory=dict)
    alone: bool = True
    undone: list[int] = field(default_factory=list)
    hidden: Hidden = field(default_factory=Hidden)
    unrestored: dict[str, Any] = field(default_factory=dict)
    portions: Portions = field(default_factory=Portions)

    @property
    def kept(self) -> Kept | None:
        """The weights that the recipe keeps, None before the first epoch."""
        return self.best if self.recipe.keep == "best" else self.last

    @property
    def network(self) -> Callable[[Tensor], Tensor]:
        """What a training step calls: the model, or what it was compiled to."""
        return self.compiled or self.model

    @property
    def lowered(self) -> float:
        """What the learning rate is multiplied by, after the steps that were undone."""
        backoff = self.recipe.on_nan
        return backoff.factor ** len(self.undone) if backoff is not None else 1.0

    @property
    def seed(self) -> int:
        """What the randomness of this session comes from."""
        return self.recipe.seed if self.session == 1 else mixed(self.recipe.seed, SESSION, self.session)

    @property
    def measured(self) -> nn.Module:
        """The model that is validated: the averaged one where there is one."""
        return self.average.model if self.average is not None else self.model

    def phase_of(self, kept: Kept) -> Phase:
        """The phase that these weights were kept in."""
        return self.recipe.phases[kept.epoch.phase - 1]

    def of_phase(self, number: int) -> list[Epoch]:
        """The finished epochs of a phase of this session."""
        return [epoch for epoch in self.history if epoch.phase == number]
