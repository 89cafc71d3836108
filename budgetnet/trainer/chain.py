"""Chained sessions: a run that goes on exactly, or a new schedule from the weights of an earlier run."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from budgetnet import checkpoint
from budgetnet.budget import built
from budgetnet.checkpoint import Checkpoint
from budgetnet.compare.difference import differences
from budgetnet.data import Data
from budgetnet.modelfile import fill, read_card
from budgetnet.recipe import Recipe
from budgetnet.run import MODEL, Epoch, Run
from budgetnet.schedule import value
from budgetnet.trainer.measure import Engine

LOOKS = 200
"""At how many places of a phase its learning rate is looked at."""


def contract(model: nn.Module, data: Data, recipe: Recipe, engine: Engine) -> dict[str, Any]:
    """What must be the same for a training to go on exactly, as plain values; and what should be."""
    made = built(model)
    state = model.state_dict()
    return {
        "recipe": recipe.describe(),
        "data": {
            "classes": list(data.classes),
            "fingerprints": {name: split.fingerprint() for name, split in data.splits.items()},
        },
        "model": {
            name: f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}" for name, t in state.items()
        },
        "budget": made.budget.describe() if made is not None else None,
        "precision": str(engine.autocast or torch.float32).removeprefix("torch."),
        "where": {
            "device": engine.device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
    }


def resumed(folder: str | Path, wanted: dict[str, Any]) -> tuple[Run, Checkpoint, list[str]]:
    """The unfinished run in `folder`, its newest whole checkpoint, and what is worth noting.

    Raises ValueError where there is none, or where recipe, data, model, budget or precision are not what
    they were, with the differences.
    """
    run = Run.read(folder)
    if run.status == "finished":
        raise ValueError(
            f"the run in {folder} is finished; start a new schedule from its weights with after= "
            f"(--after {folder})"
        )
    found, notes = checkpoint.newest(Path(folder))
    if found is None:
        reason = f": {notes[0]}" if notes else ""
        raise ValueError(f"the run in {folder} has no checkpoint to go on from{reason}; start it anew")
    held = dict(found.state["contract"])
    was, now = held.pop("where", {}), {k: v for k, v in wanted.items() if k != "where"}
    changed = _changes({name: held.get(name) for name in now}, now)
    if changed:
        more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
        raise ValueError(
            f"the run in {folder} cannot go on exactly, since this has changed: {'; '.join(changed[:3])}"
            f"{more}; change it back, or start a new schedule from its weights with after= (--after {folder})"
        )
    moved = _changes(was, wanted["where"])
    if moved:
        notes.append(f"the last bits may differ from those of an uninterrupted run: {'; '.join(moved)}")
    return run, found, notes


def _changes(before: Any, now: Any) -> list[str]:
    """What differs between two nested values, a line each: "recipe.batch_size: 64 -> 32"."""
    return [f"{found.path}: {' -> '.join(found.texts)}" for found in differences([before, now])]


def follow(model: nn.Module, folder: str | Path, data: Data) -> Run:
    """Load the weights of the run in `folder` into `model`, and give that run.

    Raises ValueError where there are no weights, or where they are not the model's.
    """
    run = Run.read(folder)
    path = Path(folder) / MODEL
    if not path.exists():
        raise ValueError(
            f"the run in {folder} has saved no {MODEL} to start from, its status is {run.status}"
        )
    card = read_card(path)
    if card.classes and card.classes != data.classes:
        raise ValueError(
            f"the run in {folder} tells {len(card.classes)} classes apart "
            f"({', '.join(card.classes[:3])}, ...), and {data.name} has {len(data.classes)} "
            f"({', '.join(data.classes[:3])}, ...); give the data that it was trained on"
        )
    fill(model, path)
    external = getattr(card, "external", "")
    if external:
        setattr(model, "external", external)  # noqa: B010
        made = built(model)
        if made is not None:
            made.budget.check(model)
    return run


def higher(recipe: Recipe, earlier: list[Epoch]) -> list[str]:
    """A sentence where the new schedule goes far above the learning rate that the weights were left at."""
    phase = recipe.phases[0]
    last = next((epoch.lr for epoch in reversed(earlier) if epoch.lr > 0), None)
    if last is None or not phase.learns:
        return []
    peak = max(value(phase.lr, k / LOOKS, epochs=phase.epochs) for k in range(LOOKS))
    if peak < 3 * last:
        return []
    return [
        f"the new schedule goes up to a learning rate of {peak:.3g}, {peak / last:.3g} times what "
        f"the weights were left at ({last:.3g}): expect the accuracy to fall at first; "
        "going on with the old schedule is --resume (resume=)"
    ]
