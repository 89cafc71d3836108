"""Chained sessions: a run that goes on exactly, or a new schedule from the weights of an earlier run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from budgetnet.budget import built, untimed
from budgetnet.compare import Difference, differences
from budgetnet.data import Data, class_difference
from budgetnet.engine import ALONE, Engine, Team, check_words
from budgetnet.files import Checkpoint, checkpoint
from budgetnet.identity import DESCRIBED, described_value, modules_of, without_rooms, without_unknown
from budgetnet.modelfile import fill, read_card, resolved, weights
from budgetnet.process import VERSION
from budgetnet.recipe import Recipe
from budgetnet.run import METRICS, MODEL, RECORD, Epoch, Run
from budgetnet.schedule import value
from budgetnet.trainer.changes import allowed_before, brought_up, line, passed, with_defaults

SAMPLES = 200
"""At how many points of a phase its learning rate is looked at."""


def contract(
    model: nn.Module, data: Data, recipe: Recipe, engine: Engine, team: Team = ALONE
) -> dict[str, Any]:
    """What must be the same for a training to go on exactly, as plain values; and what should be."""
    origin = built(model)
    state = model.state_dict()
    modules, code = modules_of(model)
    return {
        "described": DESCRIBED,
        "recipe": recipe.describe(model=model),
        "data": {
            "classes": list(data.classes),
            "fingerprints": {name: split.fingerprint() for name, split in data.splits.items()},
        },
        "model": {
            name: f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}" for name, t in state.items()
        },
        # What the shapes do not tell: activations, dropout, what is computed, what the builder was asked for.
        "modules": modules,
        "code": code,
        "made": None
        if origin is None
        else described_value({"builder": origin.make, "arguments": origin.args, **origin.kwargs}),
        "budget": origin.budget.describe() if origin is not None else None,
        "precision": str(engine.autocast or torch.float32).removeprefix("torch."),
        "where": {
            "device": engine.device.type,
            "processor": _processor(engine.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "budgetnet": VERSION,
            **({} if team.alone else {"processes": _processes(team)}),
        },
    }


def _processes(team: Team) -> str:
    """How many processes train, in words."""
    return f"{team.size}{', batch norms synchronised' if team.synchronised else ''}"


def _processor(device: torch.device) -> str:
    """What computes: the GPU's name, or the instructions that torch uses of a CPU."""
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )


@dataclass(frozen=True)
class Resumed:
    """An unfinished run and the checkpoint that it goes on from.

    `changed` is what was let pass by name, `moved` are the sentences about what lets the last bits differ.
    """

    run: Run
    held: Checkpoint
    notes: list[str]
    changed: list[Difference]
    moved: list[str]


def unfinished(folder: str | Path) -> Run:
    """The run in `folder`; where its record is damaged, what is left of it beside its checkpoints.

    Raises ValueError where there are none of these either.
    """
    try:
        return Run.read(folder)
    except ValueError as error:
        if not checkpoint.any_in(Path(folder)):
            raise
        note = f"the run's record was damaged, and is written anew with what is known: {error}"
        return Run(folder=Path(folder), record={"notes": [note]})


def resumed(
    folder: str | Path,
    wanted: dict[str, Any],
    model: nn.Module,
    recipe: Recipe,
    allow: Sequence[str] = (),
) -> Resumed:
    """The unfinished run in `folder`, its newest whole checkpoint, what is worth noting, what has changed.

    Raises ValueError where there is none, or where recipe, data, model, budget or precision are not what
    they were and `allow` does not name the difference. `wanted` is the contract of `model` and `recipe`.
    """
    run = unfinished(folder)
    if run.over:
        raise ValueError(
            f"the run in {folder} is {run.status}; start a new schedule from its weights with after= "
            f"(--after {folder})"
        )
    newest, notes = checkpoint.newest(Path(folder))
    if newest is None:
        reason = f": {notes[0]}" if notes else ""
        raise ValueError(f"the run in {folder} has no checkpoint to go on from{reason}; start it anew")
    check_words(newest)
    if not run.record.get("recipe"):
        notes += run.record["notes"]
    if run.torn:
        notes.append(f"{METRICS} was damaged, and is written anew from the checkpoint: {run.torn}")
    held = dict(newest.state["contract"])
    held["recipe"] = with_defaults(held.get("recipe"), recipe)
    if "described" not in held:
        held, untold = brought_up(held, wanted, model)
        notes += untold
    was, source = held.pop("where", {}), held.pop("source", None)
    where = {"processes": "1", **wanted["where"]}
    was = {"processes": "1", **was} if was else was
    now = {key: value for key, value in wanted.items() if key not in ("where", "source")}
    # A checkpoint of before may not tell of everything.
    pair = without_rooms(
        [{key: held[key] for key in now if key in held}, {key: now[key] for key in now if key in held}]
    )
    edited = source != wanted.get("source")
    if source and not edited:
        # What cannot be told by itself is the same where all files are that it was made in.
        pair = json.loads(without_unknown(json.dumps(pair)))
    changed = differences(pair)
    before = allowed_before(run.record.get("sessions", []))
    phases = len(now["recipe"]["phases"])
    notes += passed(folder, changed, allow, state=newest.state, phases=phases, before=before)
    if source and wanted.get("source") and edited and not changed:
        files = ", ".join(sorted(d.path for d in differences([source, wanted["source"]])))
        notes.append(f"{files} was edited since the run was begun, in nothing that it is trained by")
    there = {key: value for key, value in where.items() if key in was}
    lines = [line(difference) for difference in differences([{key: was[key] for key in there}, there])]
    moved = (
        [f"the last bits may differ from those of an uninterrupted run: {'; '.join(lines)}"] if lines else []
    )
    return Resumed(run, newest, notes, changed, moved)


def follow(model: nn.Module, name: str | Path, data: Data) -> Run:
    """Load the weights that `name` means into `model`, and give what is known of the run that they are of.

    `name` is a run's folder, a model file, or the name of a model that comes along. Raises ValueError where
    there are no weights, or where they are not the model's.
    """
    run, path = _earlier(name)
    card = read_card(path)
    if card.classes and card.classes != data.classes:
        raise ValueError(
            f"{name} tells {len(card.classes)} classes apart, and {data.name} has {len(data.classes)}: "
            f"{class_difference(data.classes, card.classes)}; give the data that it was trained on"
        )
    fill(model, path)
    if card.external:
        model.external = card.external  # type: ignore[assignment]  # a plain attribute
        origin = built(model)
        if origin is not None:
            with untimed():
                origin.budget.check(model)
    return run


def _earlier(name: str | Path) -> tuple[Run, Path]:
    """What is known of an earlier run, and the file of its weights. Raises ValueError where there is none."""
    place = resolved(name)
    if place.is_file():
        whole = place.name == MODEL and (place.parent / RECORD).exists()
        return Run.read(place.parent) if whole else Run.beside(place), place
    if not place.is_dir():
        raise ValueError(
            f"there is no run and no model file {name} to start from (after=, --after); runs lie in runs/ by "
            f"default, and the models that come along are {', '.join(weights())}"
        )
    run = Run.read(place)
    if not (place / MODEL).exists():
        raise ValueError(f"the run in {name} has saved no {MODEL} to start from, its status is {run.status}")
    return run, place / MODEL


def higher(recipe: Recipe, earlier: list[Epoch]) -> list[str]:
    """A sentence where the new schedule goes far above the learning rate that the weights were left at."""
    phase = recipe.phases[0]
    last = next((epoch.lr for epoch in reversed(earlier) if epoch.lr > 0), None)
    if last is None or not phase.learns:
        return []
    peak = max(value(phase.lr, k / SAMPLES, epochs=phase.epochs) for k in range(SAMPLES))
    if peak < 3 * last:
        return []
    return [
        f"the new schedule goes up to a learning rate of {peak:.3g}, {peak / last:.3g} times what "
        f"the weights were left at ({last:.3g}): expect the accuracy to fall at first; "
        "going on with the old schedule is --resume (resume=)"
    ]
