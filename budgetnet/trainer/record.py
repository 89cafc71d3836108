"""What a training leaves word of in its run: how it begins, where it is, and what it came to."""

import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import budgetnet.guard as guard
from budgetnet.budget import external, ledger, stated
from budgetnet.engine import Training
from budgetnet.files import checkpoint, reason, write_whole
from budgetnet.identity import digests, mark
from budgetnet.metrics import interval_text, metrics_text, wilson
from budgetnet.page import PAGE
from budgetnet.process import VERSION
from budgetnet.pseudo import write_csv
from budgetnet.run import Note, Pace, Run
from budgetnet.text import duration, percent
from budgetnet.trainer.begin import Start
from budgetnet.trainer.changes import dotted, line
from budgetnet.trainer.together import launch_mark

_LONGEST = 200_000
_MODULES = 200
"""Modules of which a record tells each one at most."""


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _timed(sessions: list[dict[str, Any]], training: Training) -> list[dict[str, Any]]:
    """The sessions so far; one that was killed told no time: it took what its checkpoint has beyond them."""
    if not sessions or "seconds" in sessions[-1]:
        return sessions
    epochs = training.state.history
    behind = sum(epoch.train_seconds + epoch.val_seconds for epoch in epochs) + training.state.spent
    told = sum(float(session.get("seconds", 0.0)) for session in sessions)
    return [*sessions[:-1], sessions[-1] | {"status": "killed", "seconds": round(max(0.0, behind - told), 3)}]


def open_record(run: Run, training: Training, start: Start) -> None:
    """The record of what is about to run."""
    sessions = _timed(list(run.record.get("sessions", [])), training)
    sessions.append({"started": now(), "from_step": training.state.step, **start.contract["where"]})
    if not start.team.alone and launch_mark():
        sessions[-1]["launch"] = launch_mark()
    if start.moved:
        sessions[-1]["moved"] = list(start.moved)
    if start.held is not None:
        guard.mark(training.model, start.data, guard.image_hashes(start.data.train), anew=True)
    # A record that was damaged tells of no recipe, and is written anew.
    if start.held is not None and run.record.get("recipe"):
        before = sum(float(session.get("seconds", 0.0)) for session in sessions)
        run.note(status="running", sessions=sessions, seconds_before=before, result={})
        if run.source and digests(run.source) != start.held.state["contract"].get("source"):
            sessions[-1]["source"] = digests(run.source)
            _keep_source(run, len(sessions))
            run.note(sessions=sessions)
        if start.changed:
            sessions[-1]["changed"] = [line(difference) for difference in start.changed]
            sessions[-1]["allowed"] = [dotted(difference.path) for difference in start.changed]
            run.note(sessions=sessions, **_asked(training, start))
        return
    counts = ledger(training.model)
    _keep_source(run)
    _remember(run, training, start)
    run.note(
        status="running",
        started=now(),
        **_asked(training, start),
        model={
            "class": type(training.model).__name__,
            "parameters": counts.params,
            "bytes": counts.bytes,
            **_computes(start.contract),
        },
        external=_origins(training),
        after=start.after,
        notes=list(start.notes),
        device=_device_name(training.engine.device),
        speed={"chosen": start.speed_choice.chosen, "why": start.speed_choice.why},
        threads=torch.get_num_threads(),
        versions={
            "budgetnet": VERSION,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        sessions=sessions,
    )


def source_paths(run: Run, session: int = 1) -> dict[str, Path]:
    """Where in a run's folder the text of each file of its recipe is kept, from each session that others."""
    assert run.place is not None
    ends = ".py" if session == 1 else f"-{session}.py"
    return {name: run.place / f"{name.removesuffix('.py')}{ends}" for name in run.source}


def _keep_source(run: Run, session: int = 1) -> None:
    if run.place is not None:
        for name, path in source_paths(run, session).items():
            write_whole(path, run.source[name].encode())


def _computes(contract: dict[str, Any]) -> dict[str, Any]:
    """What a model does, of its contract: how it was built and the user's code in it, and its modules.

    Those are told in full only where no builder's arguments tell what they are; and what is long by a digest.
    """
    made, modules = contract["made"], contract["modules"]
    whole = _short(modules) if made is None and len(modules) <= _MODULES else mark(modules)
    return {"made": made, "code": _short(contract["code"]), "modules": whole}


def _short(described: Any) -> Any:
    return described if len(json.dumps(described)) <= _LONGEST else mark(described)


def _asked(training: Training, start: Start) -> dict[str, Any]:
    """What the run is of: its recipe, data, budget and precision."""
    data = training.data
    return {
        "described": start.contract["described"],
        "recipe": start.contract["recipe"],
        "seed": training.recipe.seed,
        "planned": len(training.earlier) + sum(phase.epochs for phase in training.recipe.phases),
        "data": {
            "name": data.name,
            "classes": list(data.classes),
            "images": {name: len(split) for name, split in data.splits.items()},
            "fingerprints": start.contract["data"]["fingerprints"],
        },
        "budget": start.contract["budget"],
        "precision": start.contract["precision"],
    }


def _origins(training: Training) -> str:
    """The external weights that the model, or a teacher of it, began from; "" for none."""
    steps = [step for phase in training.recipe.phases for step in phase.augment]
    names = [external(training.model), *map(stated, steps)]
    return "; ".join(dict.fromkeys(name for name in names if name))


def _remember(run: Run, training: Training, start: Start) -> None:
    """Leave word, with the model and in the folder, of which images it learns from, here and before."""
    # Of images that were moved nothing is known yet.
    data = start.data
    pseudo = any(phase.pseudo is not None for phase in training.recipe.phases)
    more = [data.unlabelled] if pseudo and data.unlabelled is not None else []
    hashes = guard.image_hashes(data.train, *more)
    earlier = start.earlier.folder if start.earlier is not None else None
    before = guard.read_seen(earlier) if earlier is not None else None
    if before is not None:
        hashes = torch.unique(torch.cat([before, hashes]))
    if run.place is not None:
        guard.write_seen(run.place, hashes)
    # The weights of a run that is followed overwrote those that the model came with.
    guard.mark(training.model, data, hashes, anew=start.earlier is not None)


def beginning(start: Start, training: Training) -> Iterator[Note]:
    """What is said before the first step of a session."""
    yield from (Note("check", text) for text in start.notes)
    yield from (Note("bits", text) for text in start.moved)
    if start.held is not None:
        yield Note("resume", f"going on in {start.run.folder} {progress(training)}")


def listed(note: Note, training: Training, run: Run) -> Note:
    """A note; of pseudo-labels, which are listed in the run's folder then, it says where."""
    labels, pool = training.state.labelled, training.data.unlabelled
    if note.kind != "labels" or run.place is None or labels is None or pool is None:
        return note
    path = run.place / f"pseudo-labels-{training.state.phase}.csv"
    try:
        write_csv(path, labels, pool, training.data.classes)
        return Note(note.kind, f"{note.text}; they are listed in {path}")
    except OSError as error:
        return Note(note.kind, f"{note.text}; {path}, their list, could not be written: {reason(error)}")


def progress(training: Training) -> str:
    """Where a training is, in words."""
    if training.state.phase == 0:
        return "from its first step"
    number = training.state.phase
    name = training.recipe.phases[number - 1].name or f"phase {number}"
    return f"after step {training.state.step:,}: {name}, epoch {len(training.of_phase(number)) + 1}"


def _device_name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type} ({platform.machine()})"
    )


def last_lines(run: Run, result: dict[str, Any], times: Pace) -> list[str]:
    """What a run says at its end."""
    lines = []
    for way, title in (("val", "validation"), ("val_plain", "validation, plainly"), ("test", "test")):
        if f"{way}_accuracy" in result:
            images, size = result[f"{way}_images"], result[f"{way}_resolution"]
            accuracy = result[f"{way}_accuracy"]
            ends = interval_text(wilson(accuracy * images, images))
            lines.append(
                f"{title}: {percent(accuracy)} (95 %: {ends}) of {images:,} images at {size} px"
                f"{metrics_text(result, way)} (weights of epoch {result['epoch']})"
            )
    if run.record.get("external"):
        lines.append(f"not from scratch: it began from external weights, {run.record['external']}")
    if run.status in ("paused", "stopped"):
        why = "the time is up" if run.status == "paused" else "stopped by the user"
        saved = f"; go on with --resume {run.folder} (resume=)" if run.folder is not None else ""
        lines.append(f"{why} after {run.progress}{saved}")
        return lines
    if run.early:
        lines.append(f"{run.status} ({run.progress})")
    page = run.place is not None and os.path.exists(run.place / PAGE)  # False too where a disk fails
    what = f"the run and its {PAGE} lie" if page else "the run lies"
    where = f"; {what} in {run.folder}" if run.folder is not None else ""
    if result and (lines or where):
        lines.append(f"{duration(result['seconds'])} in all, {times}{where}")
    return lines


def close(run: Run) -> None:
    """Write a run's history so that it lasts, and then its record, which says so. Raises OSError."""
    run.flush()
    run.note()


def unkept(run: Run, why: str) -> str:
    """What is left of a training whose end the disk did not take, in words."""
    goes_on = run.place is not None and checkpoint.any_in(run.place)
    resume = f", or make room and go on from the last checkpoint with --resume {run.folder} (resume=)"
    return (
        f"the trained weights and figures could not be written to {run.folder}: {why}; the model has the "
        "weights still: keep them with budgetnet.save(model, 'elsewhere.safetensors')"
        f"{resume if goes_on else ''}"
    )
