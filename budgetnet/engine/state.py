"""State: all that changes as a training goes, and how it gets into a checkpoint and out of it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.budget import saved_tensors
from budgetnet.data import Split
from budgetnet.engine.evaluation import Evaluation
from budgetnet.engine.parts import Average
from budgetnet.engine.speed import Clock
from budgetnet.files import Checkpoint, NotPlain, pack, unpack
from budgetnet.pseudo import Kept as Labelled
from budgetnet.recipe import EMA
from budgetnet.run import Epoch
from budgetnet.schedule import rises

Words = dict[str, Any]
Tensors = dict[str, Tensor]


class NotSaveable(Exception):
    """A training whose state cannot be written: why."""


@dataclass(frozen=True)
class Kept:
    """Weights as they were after an epoch; `validation` is theirs, where it was measured."""

    state: Tensors
    epoch: Epoch
    validation: Evaluation | None = None

    def rank(self, by: str = "val_accuracy") -> tuple[float, float]:
        """Higher is better: the figure that is told by, then the lower loss."""
        figure = self.epoch.measure(by) if rises(by) else -self.epoch.measure(by)
        return (-math.inf if math.isnan(figure) else figure, -self.epoch.val_loss)


@dataclass
class Waiting:
    """What a checkpoint holds for the phase's optimizer, by parameter and by owner, until there is one."""

    optimizer: dict[int, dict[str, Any]] | None = None
    hidden: dict[str, Any] = field(default_factory=dict)


def _word(value: Any) -> Any:
    """A field of a plain value, which a checkpoint holds under its name."""
    if isinstance(value, list):
        return field(default_factory=list, metadata={"kind": list})
    return field(default=value, metadata={"kind": type(value)})


@dataclass
class State:
    """Where a training is: the steps and epochs behind it, and what they made.

    `phase` counts from 1 and is 0 before the first; `done` steps of the epoch at hand are behind, whose sums
    of loss, accuracy and pseudo-labelled share are `sums`, (3,) on the device, and which took `spent`
    seconds; `step` counts all steps. A batch goes through the model in `parts`, where the memory does not
    suffice for it. `undone` are the steps, counted from 0, that were taken back (BackOff). `train` are the
    training images of the phase: the data's, and those with pseudo-labels, `labelled`. `kept` are weights of
    finished epochs as "last", "best" and "best_of_phase", as far as they will be asked for.
    """

    train: Split
    phase: int = _word(0)
    done: int = _word(0)
    step: int = _word(0)
    spent: float = _word(0.0)
    parts: int = _word(1)
    undone: list[int] = _word([])
    clock: Clock = field(default_factory=Clock)
    history: list[Epoch] = field(default_factory=list)
    sums: Tensor | None = None
    average: Average | None = None
    optimizer: torch.optim.Optimizer | None = None
    labelled: Labelled | None = None
    kept: dict[str, Kept] = field(default_factory=dict)
    waiting: Waiting = field(default_factory=Waiting)

    def next_epoch(self) -> None:
        """Forget the steps of an epoch: another one begins."""
        self.done, self.sums, self.spent = 0, None, 0.0

    def capture(self, roles: Iterable[str]) -> tuple[Tensors, Words]:
        """All of it, as tensors by name and plain values; of the kept weights those of these roles."""
        words: Words = {f.name: getattr(self, f.name) for f in fields(self) if "kind" in f.metadata}
        words |= {"clock": self.clock.capture(), "history": [epoch.line() for epoch in self.history]}
        tensors: Tensors = {} if self.sums is None else {"sums": self.sums}
        if self.average is not None:
            tensors |= named("average", saved_tensors(self.average.model))
            words["averaged"] = self.average.updates
        if self.optimizer is not None:
            words["optimizer"] = _pack_optimizer(self.optimizer, tensors)
        if self.labelled is not None:
            chosen = self.labelled
            tensors |= named(
                "labelled",
                {"positions": chosen.positions, "labels": chosen.labels, "confidence": chosen.confidence},
            )
            words["labelled"] = [chosen.threshold, chosen.temperature]
        weights = {role: self.kept[role] for role in roles if role in self.kept}
        words["weights"] = {role: kept.epoch.number for role, kept in weights.items()}
        for kept in weights.values():
            tensors |= named(f"weights/{kept.epoch.number}", kept.state)
        return tensors, words

    def restore(
        self, checkpoint: Checkpoint, model: nn.Module, ema: EMA | None, device: torch.device
    ) -> None:
        """Set it to what `capture` gave, for this model; what is the optimizer's waits for it."""
        words, tensors = checkpoint.state, checkpoint.tensors
        for each in fields(self):
            if "kind" in each.metadata and each.name in words:
                setattr(self, each.name, each.metadata["kind"](words[each.name]))
        self.clock.restore(words.get("clock", {}))
        self.history = [Epoch.read(line) for line in words["history"]]
        self.sums = tensors["sums"].to(device) if "sums" in tensors else None
        if ema is not None and "averaged" in words:
            self.average = Average(model, ema)
            fill(self.average.model, of(tensors, "average"))
            self.average.updates = int(words["averaged"])
        if "optimizer" in words:
            self.waiting.optimizer = _unpack_optimizer(checkpoint)
        if "labelled" in words:
            chosen = of(tensors, "labelled")
            try:
                self.labelled = Labelled(
                    chosen["positions"], chosen["labels"], chosen["confidence"], *words["labelled"]
                )
            except ValueError as error:
                raise checkpoint.unfit("its pseudo-labels", "what was kept of the images", error) from None
        epochs = {epoch.number: epoch for epoch in self.history}
        weights = {
            number: Kept(_on(of(tensors, f"weights/{number}"), model), epochs[number])
            for number in set(words["weights"].values())
        }
        self.kept = {role: weights[number] for role, number in words["weights"].items()}


def named(role: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Tensors under the name of what they are."""
    return {f"{role}/{name}": tensor for name, tensor in tensors.items()}


def of(tensors: Mapping[str, Tensor], role: str) -> Tensors:
    """The tensors of one role, without its name before theirs."""
    start = f"{role}/"
    return {name.removeprefix(start): held for name, held in tensors.items() if name.startswith(start)}


def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy saved tensors into the model's own."""
    with torch.no_grad():
        for name, tensor in saved_tensors(model).items():
            tensor.copy_(tensors[name])


def _on(state: Mapping[str, Tensor], model: nn.Module) -> Tensors:
    """Saved weights on the devices and in the memory formats of the model's own."""
    own: Tensors = model.state_dict()
    return {
        name: torch.empty_like(own[name], requires_grad=False).copy_(tensor) for name, tensor in state.items()
    }


def _pack_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> Words:
    """What an optimizer remembers of each parameter; the tensors of it go into `tensors`."""
    words: Words = {}
    whole = optimizer.state_dict()
    kind = type(optimizer).__name__
    if set(whole) != {"state", "param_groups"}:
        more = ", ".join(sorted({"state", "param_groups"} ^ set(whole)))
        raise NotSaveable(
            f"{kind}'s state_dict should hold state and param_groups alone, and differs by {more}"
        )
    for at, entries in whole["state"].items():
        words[str(at)] = {}
        for name, value in entries.items():
            try:
                packed = pack(value, f"optimizer/{at}/{name}", tensors)
            except NotPlain as strange:
                raise NotSaveable(f"{kind} keeps {strange} in its state") from None
            if not isinstance(value, Tensor):
                words[str(at)][name] = packed
    return words


def _unpack_optimizer(checkpoint: Checkpoint) -> dict[int, dict[str, Any]]:
    """What a checkpoint holds of an optimizer, by parameter; lists and the like as they were."""
    state: dict[int, dict[str, Any]] = {
        int(at): dict(each) for at, each in checkpoint.state["optimizer"].items()
    }
    for name, tensor in of(checkpoint.tensors, "optimizer").items():
        at, _, entry = name.partition("/")
        if at not in checkpoint.state["optimizer"]:
            raise checkpoint.unfit("its tensors", "those of the run", f"optimizer/{name}")
        state[int(at)][entry] = tensor
    for number, entries in state.items():
        for name, value in list(entries.items()):
            if "/" in name:
                del entries[name]  # a tensor within a list, which the list brings
            elif isinstance(value, list | dict):
                try:
                    entries[name] = unpack(value, checkpoint.tensors)
                except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                    what = f"its optimizer's {name} of parameter {number}"
                    raise checkpoint.unfit(what, "plain values", value) from None
    return state
