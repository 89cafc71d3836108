"""Groups: several optimizers for parts of one model, each with a learning rate of its own, as a value."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Self

import torch
from torch import nn
from torch.nn import Parameter

from budgetnet.optim import OptimizerFactory, joint, takes_names
from budgetnet.schedule import (
    Measured,
    Schedule,
    Stopping,
    Stretching,
    is_schedule,
    monitors,
    stretched,
    value,
)
from budgetnet.values import above_zero

Named = tuple[str, Parameter]


def called(owner: str, name: str, value: object) -> None:
    """Refuse an optimizer or a loss that was not called yet, or cannot be."""
    if isinstance(value, type) and is_dataclass(value):
        raise ValueError(f"{owner}'s {name} is the class {value.__name__}; call it: {value.__name__}(...)")
    if not callable(value):
        such = "LabelSmoothingLoss(0.1)" if name == "loss" else "SGD() or Adam(weight_decay=1e-4)"
        raise ValueError(f"{owner}'s {name} should be callable, such as {such}, not {value!r:.200}")


def covers(pattern: str, name: str) -> bool:
    """Whether `name` is what `pattern` names, or lies inside of it."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[: k + 1]), pattern) for k in range(len(parts)))


@dataclass(frozen=True)
class Group:
    """The parameters that `parts` name, how they are optimized, and at which learning rate.

    `parts` is one pattern or a list of them, as in `Phase.trains`: "whiten.bias", "head", "*.norm*". The rate
    is `times` the phase's, or `times` the schedule `lr` where there is one, over the same phase.
    """

    parts: str | Sequence[str]
    optimizer: OptimizerFactory
    lr: Schedule | None = None
    times: float = 1.0

    def __post_init__(self) -> None:
        parts = [self.parts] if isinstance(self.parts, str) else self.parts
        if not isinstance(parts, Sequence) or not parts or not all(isinstance(p, str) and p for p in parts):
            raise ValueError(f"Group's parts should be names such as 'head' or '*.bias', not {self.parts!r}")
        if not isinstance(self.parts, str):
            object.__setattr__(self, "parts", tuple(self.parts))
        called("Group", "optimizer", self.optimizer)
        if isinstance(self.optimizer, Groups):
            raise ValueError("Group's optimizer should be one optimizer, not Groups; list all groups in one")
        above_zero("Group's times", self.times)
        if isinstance(self.lr, int | float):
            above_zero("Group's lr", self.lr)
        elif self.lr is not None and not is_schedule(self.lr):
            raise ValueError(
                f"Group's lr should be a number, a schedule such as Linear(0.1) or None, not {self.lr!r}"
            )

    @property
    def patterns(self) -> tuple[str, ...]:
        """The parts as a tuple."""
        return (self.parts,) if isinstance(self.parts, str) else tuple(self.parts)

    def stretched(self, factor: float) -> Self:
        """The same group for a phase that is `factor` times as long."""
        lr = self.lr if self.lr is None else stretched(self.lr, factor)
        return replace(self, lr=lr, optimizer=stretched_optimizer(self.optimizer, factor))


@dataclass(frozen=True)
class Groups:
    """An optimizer for each of `groups`, and `rest` for all other parameters; what comes out is one.

    A parameter belongs to the first group that names it. It is called with (name, parameter) pairs, as
    `model.named_parameters()` gives them and torch's optimizers take them; those that do not learn are left
    out. Raises ValueError for a name that the model does not have.

    >>> from budgetnet import SGD, Linear, Muon
    >>> Groups([Group("head", SGD(), times=10), Group("*.bias", SGD(), lr=Linear(0.1))], rest=Muon()).rest
    Muon(momentum=0.95, nesterov=True, steps=5, weight_decay=0.0, normalise=False)
    """

    groups: Sequence[Group]
    rest: OptimizerFactory

    takes_names: ClassVar[bool] = True

    def __post_init__(self) -> None:
        groups = [self.groups] if isinstance(self.groups, Group) else self.groups
        if not isinstance(groups, Sequence) or not groups or not all(isinstance(g, Group) for g in groups):
            raise ValueError(f"Groups's groups should be a list of at least one Group, not {self.groups!r}")
        object.__setattr__(self, "groups", tuple(groups))
        called("Groups", "rest", self.rest)

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        named = list(parameters)
        if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in named):
            raise ValueError("Groups tells parameters apart by name; call it with model.named_parameters()")
        # A parameter that parts share has the names of each.
        names: dict[int, list[str]] = {}
        for name, parameter in named:
            names.setdefault(id(parameter), []).append(name)
        chosen: list[list[Named]] = [[] for _ in range(len(self.groups) + 1)]
        for name, parameter in named:
            own = names[id(parameter)]
            if parameter.requires_grad and name == own[0]:
                chosen[min(map(self._at, own))].append((name, parameter))
        for group in self.groups:
            for pattern in group.patterns:
                if not any(covers(pattern, name) for name, _ in named):
                    tops = ", ".join(dict.fromkeys(name.partition(".")[0] for name, _ in named))
                    raise ValueError(
                        f"Group's parts name {pattern!r}, which no parameter of the model has; it has {tops}"
                    )
        makers = [*((group.optimizer, group) for group in self.groups), (self.rest, None)]
        parts = [
            _grouped(make, group, pairs) for (make, group), pairs in zip(makers, chosen, strict=True) if pairs
        ]
        return joint(parts)

    @property
    def monitors(self) -> set[str]:
        """The figures that the groups' own schedules read."""
        return {name for group in self.groups for name in monitors(group.lr)}

    def _at(self, name: str) -> int:
        """Which group a parameter belongs to; one past the last is the rest."""
        for at, group in enumerate(self.groups):
            if any(covers(pattern, name) for pattern in group.patterns):
                return at
        return len(self.groups)

    def stretched(self, factor: float) -> Self:
        """The same groups for a phase that is `factor` times as long."""
        groups = [group.stretched(factor) for group in self.groups]
        return replace(self, groups=groups, rest=stretched_optimizer(self.rest, factor))


def _grouped(make: OptimizerFactory, group: Group | None, pairs: list[Named]) -> torch.optim.Optimizer:
    """An optimizer of these parameters, whose parameter groups carry the group's rate."""
    optimizer = make([parameter for _, parameter in pairs])
    if group is not None:
        for entries in optimizer.param_groups:
            entries["schedule"], entries["times"] = group.lr, group.times
    return optimizer


def optimizer_of(
    make: OptimizerFactory, model: nn.Module, parameters: Iterable[Parameter]
) -> torch.optim.Optimizer:
    """What `make` makes of the `parameters` of `model` that learn, with their names where it takes names."""
    if not takes_names(make):
        return make(parameters)
    learns = {id(parameter) for parameter in parameters}
    assert all(p.requires_grad == (id(p) in learns) for p in model.parameters() if p.requires_grad)
    pairs: Iterator[Any] = model.named_parameters(remove_duplicate=not isinstance(make, Groups))
    return make(pairs)


def set_rates(
    optimizer: torch.optim.Optimizer,
    rate: float,
    t: float,
    *,
    epochs: float,
    history: Sequence[Measured],
    steps: int | None = None,
) -> None:
    """Write the learning rates of progress t into the optimizer; `rate` is the phase's own.

    Parameters that have stopped for good (`Early`) require no gradient from then on.
    """
    stopped = []
    for group in optimizer.param_groups:
        schedule = group.get("schedule")
        own = rate if schedule is None else value(schedule, t, epochs=epochs, history=history, steps=steps)
        group["lr"] = own * group.get("times", 1.0)
        stopped.append(isinstance(schedule, Stopping) and schedule.stopped(t, epochs=epochs))
    # Where nothing learns any more a loss still needs something to go back to.
    if any(stopped) and not all(stopped):
        for group, over in zip(optimizer.param_groups, stopped):
            for parameter in group["params"] if over else ():
                parameter.requires_grad_(False)


def stretched_optimizer(make: OptimizerFactory, factor: float) -> OptimizerFactory:
    """An optimizer for a phase that is `factor` times as long: schedules of its own change with it."""
    return make.stretched(factor) if isinstance(make, Stretching) else make
