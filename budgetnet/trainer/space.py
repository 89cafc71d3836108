"""Space: what a run is going to write, beside what its disk has free."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from budgetnet.budget import saved_tensors
from budgetnet.engine import chosen_parts
from budgetnet.files import check_place, checkpoint, free_bytes, shared_storage
from budgetnet.optim import OptimizerFactory
from budgetnet.recipe import PseudoLabels, Recipe
from budgetnet.text import size
from budgetnet.trainer.begin import Start

EPOCH = 1300
"""Bytes of an epoch in a checkpoint's history, some more than in a file of metrics."""
WORDS = 8_000
"""Bytes of a checkpoint's other words: recipe, classes, fingerprints."""
AMPLE = 3
"""Under so many times the need, the free space is worth a note."""


def checkpoint_bytes(model: nn.Module, recipe: Recipe, *, unlabelled: int = 0) -> int:
    """The bytes of the largest checkpoint of a training of `model` by `recipe`, within a few percent.

    Weights and statistics, those of the average, the optimizer's state, the weights that are kept (twice
    where a phase starts from the best ones of the phase before), and the labels of `unlabelled` images.
    """
    state = saved_tensors(model)
    own, copied = _bytes(state.values()), _bytes(model.state_dict().values())
    # In a first phase the best weights of the phase are the best of all.
    starts = recipe.phases[2 if recipe.keeps_best else 1 :]
    kept = 1 + any(phase.start == "best" for phase in starts)
    averages = 1 if recipe.average is not None else 0
    held = [
        _optimizer_state(phase.optimizer or recipe.optimizer, chosen_parts(model, phase.trains)[0])
        for phase in recipe.phases
        if phase.learns
    ]
    optimizer, entries = max(held, default=(0, 0))
    labelled = 20 * unlabelled if any(isinstance(p.pseudo, PseudoLabels) for p in recipe.phases) else 0
    epochs = sum(phase.epochs for phase in recipe.phases)
    words = WORDS + len(json.dumps(recipe.describe(), default=str)) + 80 * len(state) + EPOCH * epochs
    number = (1 + averages + kept) * len(state) + entries
    return checkpoint.bytes_of(own * (1 + averages) + optimizer + kept * copied + labelled, number, words)


def needed(model: nn.Module, recipe: Recipe, *, unlabelled: int = 0, images: int = 0, runs: int = 1) -> int:
    """The bytes that the folders of so many runs, trained one after the other, take at most.

    Two checkpoints and a third while it is written, and for each run the weights, the metrics and the hashes
    of the training `images`; each file of these is there twice while it is written.
    """
    weights = checkpoint.bytes_of(_bytes(saved_tensors(model).values()), len(saved_tensors(model)), WORDS)
    epochs = sum(phase.epochs for phase in recipe.phases)
    each = weights + EPOCH * epochs + 2 * WORDS + 8 * (images + unlabelled)
    state = checkpoint_bytes(model, recipe, unlabelled=unlabelled)
    return (checkpoint.KEPT + 1) * state + (runs + 1) * each


def check_space(folder: Path, need: int, *, held: int = 0) -> list[str]:
    """Refuse a folder whose disk has less than `need` bytes free; a note where it has little more.

    `held` bytes of them are there already. Raises ValueError.
    """
    free = free_bytes(folder)
    if free is None:
        return []
    there = f"{size(free)} free on the disk of {folder}"
    if free + held < need:
        raise ValueError(
            f"checkpoints and weights need about {size(need)}, and there are only {there}; make room, or "
            "choose another disk with out= (--out)"
        )
    if free + held < AMPLE * need:
        return [f"checkpoints and weights need about {size(need)}, and there are {there}"]
    return []


def taken(folder: Path) -> int:
    """The bytes that the files in a folder take."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(Path(path) / name).st_size
    return total


def check_out(
    out: str | Path | None, names: Sequence[str], model: nn.Module, recipe: Recipe, *, runs: int = 1
) -> list[str]:
    """Refuse an `out` in which no runs can be made, written and held; it needs no data and leaves nothing.

    `names` are those of the folders to be made in it, one in the other. Gives what is worth noting. Raises
    ValueError.
    """
    if out is None:
        return []
    place = check_place(out, *names)
    return [*check_space(place, needed(model, recipe, runs=runs)), *shared_storage(place)]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _optimizer_state(make: OptimizerFactory, parameters: list[nn.Parameter]) -> tuple[int, int]:
    """Bytes and number of the tensors in the state of such an optimizer, found out on tiny parameters."""
    tiny = [nn.Parameter(torch.zeros([2] * p.ndim, dtype=p.dtype)) for p in parameters]
    for parameter in tiny:
        parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer = make(tiny)
        optimizer.step()
        state = optimizer.state
        tensors = [
            held if held.shape != small.shape or not small.ndim else own
            for small, own in zip(tiny, parameters, strict=True)
            for held in state[small].values()
            if isinstance(held, Tensor)
        ]
    except Exception:
        # An optimizer of the user's own, that needs more than a step() to begin: two tensors a parameter.
        tensors = [own for own in parameters for _ in range(2)]
    return _bytes(tensors), len(tensors)


def room(start: Start) -> list[str]:
    """What is worth noting of the space that a run begins with. Raises ValueError for too little."""
    place, data = start.run.place, start.data
    if place is None:
        return []
    unlabelled = len(data.unlabelled) if data.unlabelled is not None else 0
    need = needed(start.model, start.recipe, unlabelled=unlabelled, images=len(data.train))
    return [*check_space(place, need, held=taken(place)), *shared_storage(place)]
