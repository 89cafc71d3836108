"""Compress: bits and widths that fit a file's bytes, and the training after which the file predicts well."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from torch import nn

from budgetnet.augment import Crop
from budgetnet.budget import Budget, Built, OverBudget, built, ledger
from budgetnet.compression.prune import shrink
from budgetnet.data import Data
from budgetnet.distill import Distill
from budgetnet.files import new_folder
from budgetnet.layers import Quantised, QuantisedConv2d, QuantisedLinear
from budgetnet.loss import DistillationLoss
from budgetnet.modelfile import Card, card, load, resolved
from budgetnet.optim import SGD
from budgetnet.recipe import EMA, Phase, Recipe, Test
from budgetnet.run import MODEL, Run
from budgetnet.schedule import Cosine, Warmup
from budgetnet.text import aligned, percent
from budgetnet.trainer import Session, Trainer, unfinished

_BITS = (8, 6, 5, 4)
"""Bits that are tried at full width, the most first; below the last the network becomes narrower."""
_WIDTHS = ("widths", "width", "stem", "hidden", "last")
"""What builders call their numbers of channels."""
_FACTORS = [at / 50 for at in range(5, 50)]


@dataclass(frozen=True)
class Size:
    """What a model costs and gives: bytes as saved, parameters, bits of most weights, accuracy if known."""

    bytes: int
    params: int
    bits: int
    accuracy: float | None


@dataclass(frozen=True)
class Compressed:
    """A compressed model, the run that it was trained in, and what it was `before` and is `after`.

    Both accuracies are those of the validation images; the one `after` is of the file, loaded again, and
    None where the run's time was up before its end.
    """

    model: nn.Module
    run: Run
    before: Size
    after: Size

    def __str__(self) -> str:
        rows = [("", "bytes as saved", "parameters", "bits", "accuracy")]
        for name, size in (("before", self.before), ("after", self.after)):
            accuracy = "not measured" if size.accuracy is None else percent(size.accuracy)
            rows.append((name, f"{size.bytes:,}", f"{size.params:,}", str(size.bits), accuracy))
        return aligned(rows)


class Sitting(TypedDict, total=False):
    """How a session of a compression begins and ends, as for `Trainer.fit`."""

    resume: str | Path | None
    max_time: float | str | None
    within: float | str | None


def _session(
    resume: str | Path | None = None,
    max_time: float | str | None = None,
    within: float | str | None = None,
) -> Session:
    return Session(resume=resume, max_time=max_time, within=within)


def compress(
    model: nn.Module | Run | str | Path,
    data: Data,
    recipe: Recipe | None = None,
    *,
    bytes: int | str | Budget = "300KB",
    epochs: int = 30,
    lr: float = 0.02,
    activations: int | None = None,
    trainer: Trainer | None = None,
    name: str = "compressed",
    **sitting: Unpack[Sitting],
) -> Compressed:
    """
    A trained model in a file of at most `bytes`, header and all, trained anew for `epochs` to do with it.

    A Budget with bytes says more that is to be kept to: those of an eight-bit file, RAM, MACs or a latency.
    `model` is a model of `Budget.build`, a run, its folder, a model file, or the name of one that comes
    along. At full width it gets 8, 6, 5 or 4 bits a weight, the most that fit; where 4 do not, the channels
    that matter least are left out too, by narrower `widths` of the same builder (see `shrink`). The weights
    then learn in few bits, from what the model itself says of the views (`Distill`). The views are those of
    the longest phase of `recipe`, the one that the model was trained by, else crops. With `activations` (8)
    it learns to do with activations of so many bits, too, as `export(..., int8=True)` makes them. The new run
    is written as any other by `trainer`, and may be cut as any other: `resume`, `max_time` and `within` are
    those of `Trainer.fit`, and the same call with `resume`, the folder of the run, goes on exactly. Raises
    ValueError for a model whose builder is not known, and OverBudget where nothing fits.

        print(compress("runs/stl10_afternoon-1", stl10(), bytes="300KB"))
    """
    session = _session(**sitting)
    limit = bytes if isinstance(bytes, Budget) else Budget(bytes=bytes)
    goal = Goal(limit, epochs, lr, activations)
    return compressed(model, data, recipe, goal, trainer or Trainer(), Run(), session, name)


@dataclass(frozen=True)
class Goal:
    """What a model is compressed to, and by what training: see `compress`."""

    limit: Budget
    epochs: int = 30
    lr: float = 0.02
    activations: int | None = None


def compressed(
    model: nn.Module | Run | str | Path,
    data: Data,
    recipe: Recipe | None,
    goal: Goal,
    trainer: Trainer,
    run: Run,
    session: Session,
    name: str,
) -> Compressed:
    """`compress` for whoever has a run to write to, with what its record is to say, and a session."""
    teacher, path = _teacher(model)
    origin = built(teacher)
    if origin is None:
        raise ValueError(
            f"{type(teacher).__name__} should be of Budget.build, which knows how to build a smaller one; "
            "build it by Budget(...).build(make, ...)"
        )
    known = card(teacher) or Card()
    _, channels, height, _ = data.train.shape
    if goal.limit.bytes is None:
        raise ValueError(
            f"compress fits a model into bytes, which {goal.limit!r} does not limit: give bytes, too"
        )
    smaller = _chosen(origin, goal.limit, goal.activations)
    shrink(_plain(teacher, origin), smaller, (1, channels, known.crop or height, known.crop or height))
    before = _size(teacher, path, trainer, data)
    fine = finetuning(path or teacher, recipe, known, height, goal.epochs, goal.lr)
    if session.resume is not None and session.within is None:
        scale = unfinished(session.resume).record.get("scale")
        fine = fine.scaled(scale) if isinstance(scale, int | float) else fine
    make = None if trainer.out is None else partial(new_folder, trainer.out, name)
    for _ in trainer.start(smaller, data, fine, run, session, make):
        pass
    if not run.over:
        return Compressed(smaller, run, before, _size(smaller, None, None, data))
    if run.folder is None:
        return Compressed(smaller, run, before, _size(smaller, None, trainer, data))
    again = built(smaller)
    assert again is not None
    loaded = load(run.folder, again.make, *again.args, **again.kwargs)
    after = _size(loaded, run.folder / MODEL, trainer, data)
    run.note(compressed={"from": str(path or ""), "before": vars(before), "after": vars(after)})
    return Compressed(loaded, run, before, after)


def _teacher(model: nn.Module | Run | str | Path) -> tuple[nn.Module, Path | None]:
    """The model that is meant, and its file where there is one."""
    if isinstance(model, nn.Module):
        return model, None
    if isinstance(model, Run):
        if model.folder is None and model.model is not None:
            return model.model, None
        if model.folder is None:
            raise ValueError("the run has no folder and no model: give the model itself")
        model = model.folder
    path = resolved(model)
    return load(path), path / MODEL if path.is_dir() else path


def _chosen(origin: Built, limit: Budget, activations: int | None) -> nn.Module:
    """The network of most bits, else of most channels, that fits into `limit`, and the model's own budget."""
    own = origin.budget.describe()
    if "stored" in own:  # the file that is wanted may not be that of eight bits
        own = {option: value for option, value in own.items() if option not in ("stored", "ram")}
    budget = Budget(**(own | limit.describe()))
    most = budget.bytes or 0
    make = origin.make.make if isinstance(origin.make, Quantised) else origin.make
    tried = _BITS[:1] if limit.stored else _BITS  # in a file of eight bits fewer are no fewer bytes
    for bits in tried:
        try:
            return budget.build(
                Quantised(make, bits=bits, activations=activations), *origin.args, **origin.kwargs
            )
        except OverBudget as error:
            refusal = error
    knobs = _knobs(make, origin)
    if not knobs:
        raise refusal
    few = Quantised(make, bits=tried[-1], activations=activations)

    def narrower(factor: float) -> dict[str, Any]:
        return {**origin.kwargs, **{knob: _scaled(width, factor) for knob, width in knobs.items()}}

    try:
        spent = budget.widest(lambda factor: few(*origin.args, **narrower(factor)), _FACTORS)
    except OverBudget as error:
        least = error.ledger.cost("bytes") or 0
        if least <= most:  # another limit is in the way, and the refusal says which
            raise
        raise OverBudget(
            f"a file of {most:,} bytes should hold the model in {tried[-1]} bits a weight and a tenth of its "
            f"channels, but that takes {least:,}; give bytes={least} (--bytes) or more, or train a smaller "
            "network",
            error.ledger,
        ) from None
    return budget.build(few, *origin.args, **narrower(next(iter(spent.knobs.values()))))


def _knobs(make: Callable[..., nn.Module], origin: Built) -> Mapping[str, Any]:
    """The builder's arguments that are widths, with their values."""
    try:
        signature = inspect.signature(make)
        bound = signature.bind_partial(*origin.args, **origin.kwargs)
    except (TypeError, ValueError):
        return {}
    by_position = list(signature.parameters)[: len(origin.args)]
    bound.apply_defaults()
    return {
        knob: bound.arguments[knob]
        for knob in _WIDTHS
        if knob in bound.arguments and knob not in by_position and _is_width(bound.arguments[knob])
    }


def _is_width(value: object) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(isinstance(each, int) for each in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scaled(width: Any, factor: float) -> Any:
    """A width, or widths, times a factor: whole ones in steps of four or eight, which processors like."""
    if isinstance(width, float):
        return width * factor
    if isinstance(width, int):
        step = 8 if width >= 64 else 4
        return min(width, max(step, round(width * factor / step) * step))
    return tuple(_scaled(each, factor) for each in width)


def _plain(teacher: nn.Module, origin: Built) -> nn.Module:
    """The teacher with ordinary layers, whose weights are those that it computes with."""
    if not isinstance(origin.make, Quantised):
        return teacher
    plain = origin.make.make(*origin.args, **origin.kwargs)
    state = teacher.state_dict()
    for name, module in teacher.eval().named_modules():
        if isinstance(module, QuantisedConv2d | QuantisedLinear):
            state[f"{name}.weight".lstrip(".")] = module.rounded().detach()
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    return plain


def _size(model: nn.Module, path: Path | None, trainer: Trainer | None, data: Data) -> Size:
    """What a model costs, and its accuracy on the validation images, where a `trainer` measures it."""
    counts = ledger(model)
    bits = min(
        (each.bits for each in model.modules() if isinstance(each, QuantisedConv2d | QuantisedLinear)),
        default=8 * torch.float32.itemsize,
    )
    measured = None
    if data.val is not None and trainer is not None:
        known = card(model)
        size = None if known is not None and known.crop else data.train.shape[2]
        measured = trainer.evaluate(model, data.val, classes=data.classes, resolution=size).accuracy
    return Size(counts.saved if path is None else path.stat().st_size, counts.params, bits, measured)


def finetuning(
    teacher: nn.Module | Path, recipe: Recipe | None, known: Card, height: int, epochs: int, lr: float
) -> Recipe:
    """One phase on the views of the recipe's longest, at its last resolution, taught by the model itself."""
    taught = Distill(teacher, temperature=2.0, beside=True)
    own = Recipe([Phase(epochs, known.crop or height, lr, augment=[Crop(scale=(0.5, 1.0))])])
    base = recipe or own
    learning = [phase for phase in base.phases if phase.learns] or list(own.phases)
    longest = max(learning, key=lambda phase: phase.epochs * phase.views)
    steps = [step for step in longest.augment if not isinstance(step, Distill)]
    tested = Test(known.resize, known.crop, mirror=known.mirror, shift=known.shift) if known.crop else None
    phase = Phase(
        epochs,
        longest.last_resolution,
        Warmup(Cosine(lr), epochs=1) if epochs > 1 else Cosine(lr),
        augment=[*steps, taught],
        views=longest.views,
        test=tested or longest.test,
        batch_size=longest.batch_size,
        name="compress",
    )
    return replace(
        base,
        phases=[phase],
        optimizer=SGD(weight_decay=5e-4),
        loss=DistillationLoss(weight=0.9, temperature=2.0),
        average=base.average or EMA(0.998),
        keep="averaged",
    )
