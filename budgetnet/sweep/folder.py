"""Folder: where a sweep lies, and what of an earlier one in it can be used again."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from budgetnet.compare import differences
from budgetnet.files import check_name, folders_of, new_folder
from budgetnet.identity import without_rooms
from budgetnet.plan import Plan
from budgetnet.run import RECORD, UNFINISHED, Run
from budgetnet.sweep.repeat import goes_on
from budgetnet.sweep.trials import FORMAT, JSON
from budgetnet.trainer import Trainer

TAKING = ".taking"
"""What a search's folder has and a grid's has not: where workers decide who has which trial."""
TRIAL = "trial"
"""The entry of a run's record that holds the setting it was trained with."""


def folder_of(trainer: Trainer, plan: Plan, name: str | None) -> Path:
    """The folder `name` in the trainer's out, or the one that new sweeps of the plan are numbered after."""
    if trainer.out is None:
        raise ValueError("a sweep writes its runs to a folder: give its Trainer an out, such as out='runs'")
    return Path(trainer.out) / (check_name(name) if name is not None else f"{plan.name}-sweep")


def earlier(folder: Path, *, numbered: bool, resume: bool) -> Path | None:
    """The folder of a sweep to go on with: `folder`, or the latest numbered after it; None for a new one.

    Raises ValueError for a folder that is in use.
    """
    if numbered:
        sweeps = [path for path in folders_of(folder.parent, folder.name) if (path / JSON).is_file()]
        return sweeps[-1] if resume and sweeps else None
    if not folder.exists():
        return None
    if not resume:
        raise ValueError(
            f"{folder} is there already; choose another name (--name), or go on with it (--resume)"
        )
    if (folder / TAKING).is_dir():
        raise ValueError(f"{folder} holds a search and no grid; choose another name (--name)")
    if not (folder / JSON).is_file():
        raise ValueError(f"{folder} holds no sweep to go on with; choose another name (--name)")
    return folder


def made(folder: Path, *, numbered: bool) -> Path:
    """A new folder for a sweep. Raises ValueError where it cannot be made."""
    if numbered:
        return new_folder(folder.parent, folder.name)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ValueError(
            f"the folder {folder} cannot be made: {error.strerror}; choose another out"
        ) from None
    return folder


def described(plan: Plan) -> dict[str, Any]:
    """What the trials start from, as plain JSON; a sweep goes on only where it is the same."""
    entries = plan.describe()
    del entries["recipe"]["seed"]
    return entries


def finished(folder: Path, origin: Mapping[str, Any]) -> dict[tuple[str, int], Run]:
    """The finished runs of the sweep in `folder` by setting and seed. Refuses a sweep of something else."""
    path = folder / JSON
    try:
        entries = json.loads(path.read_text("utf-8"))
        if entries["format"] != FORMAT:
            raise ValueError(f"its format is {entries['format']}, not {FORMAT}")
        listed = [
            ((key_of(trial["settings"]), int(run["seed"])), Path(run["folder"]).name)
            for trial in entries["trials"]
            for run in trial["runs"]
            if run["status"] not in UNFINISHED
        ]
        before = dict(entries["plan"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} should be a sweep's, and cannot be read: {error}; choose another name"
        ) from None
    # One of before the code was told is held to what it told.
    changed = differences(
        without_rooms([before, {key: item for key, item in origin.items() if key in before}])
    )
    if changed:
        raise ValueError(
            f"the sweep in {folder} was made from something else: {changed[0]}; go on with what it was made "
            "from, or choose another name (--name)"
        )
    runs = [(key, Run.read(folder / name)) for key, name in listed if (folder / name).is_dir()]
    # One that ended as the sweep did may not be listed.
    return {key: run for key, run in (*_trials(folder), *runs) if run.over}


def interrupted(folder: Path) -> dict[tuple[str, int], Path]:
    """The runs in the `folder` of a sweep that can go on, by setting and seed: the newest of each."""
    runs: dict[tuple[str, int], tuple[float, Path]] = {}
    for key, run in _trials(folder):
        if goes_on(run):
            assert run.folder is not None
            runs[key] = max(runs.get(key, (0.0, run.folder)), (run.started, run.folder))
    return {key: path for key, (_, path) in runs.items()}


def _trials(folder: Path) -> Iterator[tuple[tuple[str, int], Run]]:
    """The runs in the `folder` of a sweep that say of which setting they are, with that and their seed."""
    for path in folder.glob(f"*/{RECORD}"):
        with suppress(ValueError):
            run = Run.read(path.parent)
            trial, seed = run.record.get(TRIAL), run.record.get("seed")
            if isinstance(trial, dict) and isinstance(seed, int):
                yield (key_of(trial), seed), run


def key_of(settings: Mapping[str, str]) -> str:
    """A setting as one text, whatever the order of its paths."""
    return json.dumps(dict(settings), sort_keys=True)
