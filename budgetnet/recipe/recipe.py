"""Recipe: a whole training, as a plain value."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from torch import nn

from budgetnet.identity import described_value
from budgetnet.loss import LabelSmoothingLoss, Loss
from budgetnet.optim import SGD, OptimizerFactory
from budgetnet.recipe.average import EMA
from budgetnet.recipe.backoff import BackOff
from budgetnet.recipe.check import above_zero, made, one_of, whole
from budgetnet.recipe.groups import stretched_optimizer
from budgetnet.recipe.phase import Phase
from budgetnet.recipe.values import with_value


@dataclass(frozen=True)
class Recipe:
    """A whole training: `phases` in order, and what they share.

    `average` keeps an averaged copy of the weights, which then is what gets validated. `keep` chooses the
    weights that the run ends with: the "last", the "best" validated, or the "averaged". `clip` bounds the
    gradient's norm. `measure` lists the splits that are measured after every epoch, in evaluation mode, as
    the phase's test says: "val", and "train" or "test" for curves of them too. `seed` decides order,
    augmentation and dropout, and in a recipe file the first weights too: same seed, same run. In a script of
    your own, seed torch before you build the model. A NaN or infinity stops the training; with `on_nan`, a
    BackOff, it goes on without that step, at a lower rate.
    """

    phases: Sequence[Phase]
    optimizer: OptimizerFactory = SGD()
    loss: Loss = LabelSmoothingLoss(0.0)
    batch_size: int = 128
    average: EMA | None = None
    clip: float | None = None
    keep: Literal["last", "best", "averaged"] = "last"
    measure: Sequence[str] = ("val",)
    seed: int = 0
    on_nan: BackOff | None = None

    def __post_init__(self) -> None:
        phases = [self.phases] if isinstance(self.phases, Phase) else self.phases
        if not isinstance(phases, Sequence) or not phases or not all(isinstance(p, Phase) for p in phases):
            raise ValueError(f"Recipe's phases should be a list of at least one Phase, not {self.phases!r}")
        object.__setattr__(self, "phases", tuple(phases))
        for name in ("optimizer", "loss"):
            made("Recipe", name, getattr(self, name))
        whole("Recipe", "batch_size", self.batch_size)
        whole("Recipe", "seed", self.seed, least=0)
        if self.clip is not None:
            above_zero("Recipe", "clip", self.clip)
        one_of("Recipe", "keep", self.keep, ("last", "best", "averaged"))
        if isinstance(self.measure, str) or not isinstance(self.measure, Sequence):
            raise ValueError(f"Recipe's measure should be a list such as ['val'], not {self.measure!r}")
        for split in self.measure:
            one_of("Recipe", "measure", split, ("train", "val", "test"))
        object.__setattr__(self, "measure", tuple(self.measure))
        if self.average is not None and not isinstance(self.average, EMA):
            raise ValueError(f"Recipe's average should be an EMA(decay) or None, not {self.average!r}")
        if self.on_nan is not None and not isinstance(self.on_nan, BackOff):
            raise ValueError(
                f"Recipe's on_nan should be a BackOff(factor, limit) or None, not {self.on_nan!r}"
            )
        if self.keep == "averaged" and self.average is None:
            raise ValueError("Recipe's keep='averaged' needs an average, such as average=EMA(0.999)")

    def scaled(self, factor: float) -> Self:
        """The whole recipe made shorter (or longer) in proportion: 0.05 is a twentieth of the views."""
        above_zero("scaled", "factor", factor)
        phases = [phase.scaled(factor) for phase in self.phases]
        lengths = [short.epochs / long.epochs for short, long in zip(phases, self.phases)]
        optimizers = [stretched_optimizer(self.optimizer, length) for length in lengths]
        if all(optimizer == optimizers[0] for optimizer in optimizers):
            return replace(self, phases=phases, optimizer=optimizers[0])
        # Epochs are whole, so that phases may shrink by different factors: each then has its own.
        own = [replace(p, optimizer=p.optimizer or o) for p, o in zip(phases, optimizers)]
        return replace(self, phases=own)

    def changed(self, path: str, found: object) -> Self:
        """The recipe with one value changed, by its dotted path: "batch_size", "phases.0.lr.peak"."""
        new: Self = with_value(self, path.split("."), found, "recipe")
        return new

    def describe(self, *, model: nn.Module | None = None) -> dict[str, Any]:
        """The recipe as plain JSON values, for records; a function's use of `model` is named alone."""
        parts = [] if model is None else [*model.modules(), *model.parameters(), *model.buffers()]
        described: dict[str, Any] = described_value(self, apart=parts)
        return described
