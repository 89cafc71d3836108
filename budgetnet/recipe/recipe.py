"""Recipe: a whole training, as a plain value whose parts can be changed by their paths."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, Self

from torch import nn

from budgetnet.identity import UNSAID, described_value, said
from budgetnet.loss import LabelSmoothingLoss, Loss
from budgetnet.metrics import Answers, check_metrics
from budgetnet.optim import SGD, OptimizerFactory
from budgetnet.recipe.groups import called, stretched_optimizer
from budgetnet.recipe.phase import Phase
from budgetnet.values import above_zero, number, one_of, whole


@dataclass(frozen=True)
class EMA:
    """An exponential moving average of the weights and batch-norm statistics, updated at every step.

    `decay` is per step; early on it is min(decay, (1 + n) / (10 + n)) after n steps, so that the start is
    forgotten. Reference: https://arxiv.org/abs/1608.03983; the warm-up is TensorFlow's.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        number("EMA's decay", self.decay, above=0, below=1)

    def at(self, step: int) -> float:
        """The decay of the update after `step` earlier ones."""
        return min(self.decay, (1 + step) / (10 + step))


@dataclass(frozen=True)
class BackOff:
    """Undo a step that leaves a NaN or an infinity, and go on with the next at a lower learning rate.

    Weights, statistics, averages and the optimizer are as before the step; its images are passed over. The
    rate is multiplied by `factor`, in (0, 1), from then on. After `limit` times the training stops, as it
    does at once without a BackOff. It costs a copy of the training's state in memory, and on CUDA a wait for
    the device at every step.
    """

    factor: float = 0.5
    limit: int = 3

    def __post_init__(self) -> None:
        number("BackOff's factor", self.factor, above=0, below=1)
        whole("BackOff's limit", self.limit)


@dataclass(frozen=True)
class Recipe:
    """A whole training: `phases` in order, and what they share.

    An epoch shows the images in a new order each time: all of them as often ("shuffled"), or as many of each
    class, the rare ones more often ("balanced"). `average` keeps an averaged copy of the weights, which then
    is what gets validated. `keep` chooses the weights that the run ends with: the "last", the "best"
    validated, the "averaged", or those of the best epoch by another figure, such as "val_loss" or "val_f1".
    `clip` bounds the gradient's norm. `measure` lists the splits that are measured after every epoch, in
    evaluation mode, as the phase's test says: "val", and "train" or "test" for curves of them too. `metrics`
    are figures besides loss and accuracy that are measured there: `metrics.F1()`, or any function of (logits,
    labels). `seed` decides order, augmentation and dropout, and in a recipe file the first weights too: same
    seed, same run. In a script of your own, seed torch before you build the model. A NaN or infinity stops
    the training; with `on_nan`, a BackOff, it goes on without that step, at a lower rate.
    """

    phases: Sequence[Phase]
    optimizer: OptimizerFactory = SGD()
    loss: Loss = LabelSmoothingLoss(0.0)
    batch_size: int = 128
    average: EMA | None = None
    clip: float | None = None
    keep: str = "last"
    measure: Sequence[str] = ("val",)
    seed: int = 0
    on_nan: BackOff | None = None
    metrics: Sequence[Answers] = field(default=(), metadata=UNSAID)
    order: Literal["shuffled", "balanced"] = field(default="shuffled", metadata=UNSAID)

    def __post_init__(self) -> None:
        phases = [self.phases] if isinstance(self.phases, Phase) else self.phases
        if not isinstance(phases, Sequence) or not phases or not all(isinstance(p, Phase) for p in phases):
            raise ValueError(f"Recipe's phases should be a list of at least one Phase, not {self.phases!r}")
        object.__setattr__(self, "phases", tuple(phases))
        for name in ("optimizer", "loss"):
            called("Recipe", name, getattr(self, name))
        whole("Recipe's batch_size", self.batch_size)
        whole("Recipe's seed", self.seed, 0)
        if self.clip is not None:
            above_zero("Recipe's clip", self.clip)
        one_of("Recipe's order", self.order, ("shuffled", "balanced"))
        if not (isinstance(self.keep, str) and self.keep.startswith("val_")):
            one_of("Recipe's keep", self.keep, ("last", "best", "averaged", "val_loss"))
        object.__setattr__(self, "metrics", check_metrics("Recipe", self.metrics))
        if isinstance(self.measure, str) or not isinstance(self.measure, Sequence):
            raise ValueError(f"Recipe's measure should be a list such as ['val'], not {self.measure!r}")
        for split in self.measure:
            one_of("Recipe's measure", split, ("train", "val", "test"))
        object.__setattr__(self, "measure", tuple(self.measure))
        if self.average is not None and not isinstance(self.average, EMA):
            raise ValueError(f"Recipe's average should be an EMA(decay) or None, not {self.average!r}")
        if self.on_nan is not None and not isinstance(self.on_nan, BackOff):
            raise ValueError(
                f"Recipe's on_nan should be a BackOff(factor, limit) or None, not {self.on_nan!r}"
            )
        if self.keep == "averaged" and self.average is None:
            raise ValueError("Recipe's keep='averaged' needs an average, such as average=EMA(0.999)")

    @property
    def best_by(self) -> str:
        """The figure that the best epoch is told by."""
        return self.keep if self.keeps_best and self.keep != "best" else "val_accuracy"

    @property
    def keeps_best(self) -> bool:
        """Whether the run ends with the weights of its best epoch."""
        return self.keep not in ("last", "averaged")

    def scaled(self, factor: float) -> Self:
        """The whole recipe made shorter (or longer) in proportion: 0.05 is a twentieth of the views."""
        above_zero("scaled's factor", factor)
        phases = [phase.scaled(factor) for phase in self.phases]
        lengths = [short.epochs / long.epochs for short, long in zip(phases, self.phases)]
        optimizers = [stretched_optimizer(self.optimizer, length) for length in lengths]
        if all(optimizer == optimizers[0] for optimizer in optimizers):
            return replace(self, phases=phases, optimizer=optimizers[0])
        # Epochs are whole, so that phases may shrink by different factors: each then has its own.
        own = [replace(p, optimizer=p.optimizer or o) for p, o in zip(phases, optimizers)]
        return replace(self, phases=own)

    def changed(self, path: str, new_value: object) -> Self:
        """The recipe with one value changed, by its dotted path: "batch_size", "phases.0.lr.peak"."""
        new: Self = with_value(self, path.split("."), new_value, "recipe")
        return new

    def describe(self, *, model: nn.Module | None = None) -> dict[str, Any]:
        """The recipe as plain JSON values, for records; a function's use of `model` is named alone."""
        parts = [] if model is None else [*model.modules(), *model.parameters(), *model.buffers()]
        described: dict[str, Any] = described_value(self, apart=parts)
        return described


def with_value(owner: Any, path: list[str], new_value: object, where: str) -> Any:
    """`owner` with the value at `path` replaced by `new_value`; `where` names the owner in refusals."""
    name, rest = path[0], path[1:]
    if isinstance(owner, tuple):
        if not name.isdigit() or int(name) >= len(owner):
            raise ValueError(f"{where} has the numbers 0 to {len(owner) - 1}, not {name!r}")
        at = int(name)
        item = with_value(owner[at], rest, new_value, f"{where}.{at}") if rest else new_value
        return (*owner[:at], item, *owner[at + 1 :])
    if not is_dataclass(owner) or isinstance(owner, type):
        raise ValueError(
            f"{where} is {owner!r}, which has no {name!r}; change it as a whole in the recipe's file"
        )
    names = [each.name for each in fields(owner)]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
        raise ValueError(f"{where} has no {name!r}; {hint}")
    new = with_value(getattr(owner, name), rest, new_value, f"{where}.{name}") if rest else new_value
    return replace(owner, **{name: new})


def defaults(value: object) -> dict[str, dict[str, Any]]:
    """The options that have defaults, described, of each class of which there is a value in `value`."""
    options: dict[str, dict[str, Any]] = {}
    if is_dataclass(value) and not isinstance(value, type):
        own = {}
        for each in fields(value):
            options |= defaults(getattr(value, each.name))
            if each.default is not MISSING and said(value, each):
                own[each.name] = described_value(each.default)
            elif each.default_factory is not MISSING:
                own[each.name] = described_value(each.default_factory())
        options[type(value).__name__] = own
    elif isinstance(value, Mapping):
        for item in value.values():
            options |= defaults(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            options |= defaults(item)
    return options
