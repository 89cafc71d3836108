"""Training: what one training is of, how it is computed, and what can end it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from torch import Tensor, nn

from budgetnet.augment import FusedViews
from budgetnet.data import Data, Interleaved
from budgetnet.engine.hidden import Hidden
from budgetnet.engine.measure import Engine
from budgetnet.engine.memory import Chunks
from budgetnet.engine.randomness import SESSION, mixed
from budgetnet.engine.speed import Compiled
from budgetnet.engine.state import Kept, State
from budgetnet.recipe import Phase, Recipe
from budgetnet.run import Epoch, Note, Run


class TrainingFailed(RuntimeError):
    """A training that cannot go on: what happened, where, and what is left."""


class NotWritten(TrainingFailed):
    """A training whose end could not be written to its folder; `run` has the trained model."""

    def __init__(self, text: str, run: Run) -> None:
        super().__init__(text)
        self.run = run


class NotFinite(TrainingFailed):
    """A training in which a number became NaN or infinite: which, and in which step."""


@dataclass
class Execution:
    """How steps are executed, which changes no result.

    They call what the model was `compiled` to, if it was, and make their views by `fused`, where that is
    compiled; what fails to compile is given up. `chunks` say how images go through the model where nothing
    is learnt. `interleaved` copies of splits, by name, are read instead of them. Where others use the memory
    too, and it is not `alone`, a step that it does not suffice for is tried again when it is.
    """

    compiled: Compiled | None = None
    fused: FusedViews | None = None
    chunks: Chunks = field(default_factory=Chunks)
    interleaved: dict[str, Interleaved] = field(default_factory=dict)
    alone: bool = True


def _nobody(note: Note) -> None:
    return None


@dataclass(frozen=True)
class Training:
    """What one training is of; all that changes is its `state`.

    It goes on from the weights that `earlier` epochs of other sessions left, and is the `session`-th, from 1.
    `hidden` knows what no state_dict holds, as it was before the first step. `tell` is told what is worth
    knowing.
    """

    model: nn.Module
    data: Data
    recipe: Recipe
    engine: Engine
    state: State
    session: int = 1
    earlier: tuple[Epoch, ...] = ()
    tell: Callable[[Note], None] = _nobody
    execution: Execution = field(default_factory=Execution)
    hidden: Hidden = field(default_factory=Hidden)

    @classmethod
    def fresh(cls, model: nn.Module, data: Data, recipe: Recipe, engine: Engine) -> Self:
        """A training before its first step."""
        return cls(model, data, recipe, engine, State(data.train))

    @property
    def kept(self) -> Kept | None:
        """The weights that the recipe keeps, None before the first epoch."""
        return self.state.kept.get(self.role)

    @property
    def network(self) -> Callable[[Tensor], Tensor]:
        """What a training step calls: the model, or what it was compiled to."""
        return self.execution.compiled or self.model

    @property
    def lowered(self) -> float:
        """What the learning rate is multiplied by, after the steps that were undone."""
        backoff = self.recipe.on_nan
        return backoff.factor ** len(self.state.undone) if backoff is not None else 1.0

    @property
    def seed(self) -> int:
        """What the randomness of this session comes from."""
        return self.recipe.seed if self.session == 1 else mixed(self.recipe.seed, SESSION, self.session)

    @property
    def measured(self) -> nn.Module:
        """The model that is validated: the averaged one where there is one."""
        return self.state.average.model if self.state.average is not None else self.model

    def phase_of(self, kept: Kept) -> Phase:
        """The phase that these weights were kept in."""
        return self.recipe.phases[kept.epoch.phase - 1]

    def of_phase(self, number: int) -> list[Epoch]:
        """The finished epochs of a phase of this session."""
        return [epoch for epoch in self.state.history if epoch.phase == number]

    @property
    def role(self) -> str:
        """As what the weights that the recipe keeps are kept."""
        return "best" if self.recipe.keep == "best" else "last"

    @property
    def roles(self) -> list[str]:
        """In which roles the rest of the run may still ask for kept weights."""
        following = self.recipe.phases[self.state.phase :][:1]
        starts = any(phase.start == "best" for phase in following)
        return [self.role, *(["best_of_phase"] if starts else [])]
