"""`budgetnet run --seeds`: one recipe trained with several seeds, and the spread of its figures."""

import math
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from budgetnet.cli.asked import Asked
from budgetnet.cli.overview import checked_model, show_model, show_phases
from budgetnet.cli.run import result_line
from budgetnet.compare import Figure, measured
from budgetnet.console import say, table
from budgetnet.data import Data
from budgetnet.files import check_name, folders_of
from budgetnet.metrics import interval_text, wilson
from budgetnet.plan import Plan
from budgetnet.run import Run
from budgetnet.sweep import FAILURE, MISTAKE, NOT_FINITE, Manner, out_of_fold, seeded
from budgetnet.text import duration, percent
from budgetnet.trainer import (
    NotFinite,
    Trainer,
    TrainingFailed,
    check_out,
    data_line,
    device_line,
    planned_before,
)

_FIGURES = {"val_accuracy": "validation", "test_accuracy": "test", "train_accuracy": "train"}


def run_seeds(
    recipe: str,
    asked: Asked,
    trainer: Trainer,
    *,
    name: str | None,
    quiet: bool,
    seeds: int,
    manner: Manner,
    within: str | None = None,
) -> list[Run]:
    """Train a recipe with its seed and those that follow it, and print each figure, and mean and spread.

    Raises TrainingFailed in the end where some of the runs failed, NotFinite where one did for a number that
    was none.
    """
    begun, base = time.monotonic(), asked.read(recipe)
    plan = asked.made(base)
    folder, total = check_name(name or plan.name), seeds * (manner.folds or 1)
    extra: dict[str, Any] = {}
    earlier = _newest(Path(trainer.out or "runs"), folder, plan) if manner.resume else None
    if earlier is not None and within is None:
        asked, extra = _as_begun(asked, earlier)
        plan = asked.plan(recipe)
    model = checked_model(plan)
    if not quiet:
        show_model(plan, model)
    check_out(trainer.out, (folder,), model, plan.recipe, runs=total)
    whole = plan.data()
    data = whole.folds(manner.folds)[0] if manner.folds is not None else whole
    if not quiet:
        say(data_line(data))
        say(device_line(trainer.device))
    if within is not None:
        held = _before(earlier, folder, within) if earlier is not None else None
        if held is None:
            scaled = partial(asked.scaled, base)
            found = trainer.planned(model, data, scaled, within, begun=begun, runs=total)
            held = {"scale": found.scale, "within": found.record}
            for line in () if quiet else found.lines:
                say(line)
        asked, extra = replace(asked, scale=held["scale"]), {"within": held["within"]}
        plan = asked.made(base)
    if not quiet:
        show_phases(plan.recipe, data)
    runs: list[Run] = []
    try:
        record = {**asked.record(plan), **extra}
        for run in seeded(trainer, plan, seeds, whole, name=folder, manner=manner, record=record):
            runs.append(run)
            if quiet:
                say(result_line(run) if run.status == "finished" else f"{run.status}  {run.folder}")
    except (KeyboardInterrupt, SystemExit):
        if not quiet:
            say("stopped: the same command with --resume goes on")
        raise
    runs.sort(key=_number)
    _conclude(trainer, plan, runs, whole, total, quiet=quiet)
    return runs


def _conclude(trainer: Trainer, plan: Plan, runs: list[Run], data: Data, total: int, *, quiet: bool) -> None:
    """Say what came out of the runs, of `total`, and raise what the worst of their failures is."""
    if not quiet:
        _show(runs)
    finished = [run for run in runs if run.status == "finished"]
    _show_figures(finished)
    _write_outside(trainer, plan, finished, data)
    _raise_worst([run for run in runs if run.status == "failed"], total)


def _number(run: Run) -> tuple[int, int]:
    return int(run.record.get("seed") or 0), _fold(run)


def _fold(run: Run) -> int:
    """The number of a run's fold, from 1; 0 where it has none."""
    return int((run.record.get("fold") or {"at": -1})["at"]) + 1


def _write_outside(trainer: Trainer, plan: Plan, finished: list[Run], data: Data) -> None:
    """Write what the images are called out of their folds, if any, beside the runs."""
    if not any(map(_fold, finished)):
        return
    outside = out_of_fold(trainer, plan, finished, data)
    first = finished[0].folder
    assert first is not None
    file = first.with_name(f"{first.name}-out-of-fold.csv")
    outside.write(file)
    for note in outside.notes:
        say(f"note: {note}", error=True)
    count, ends = len(outside.labels), interval_text(wilson(outside.right, len(outside.labels)))
    said = f"{percent(outside.accuracy)} ({outside.right:,} of {count:,} images; 95 %: {ends})"
    say(f"out of fold {said}, in {file}")


def _show_figures(finished: list[Run]) -> None:
    """Mean and spread of each figure."""
    for what, title in _FIGURES.items():
        figure = Figure(tuple(measured(run, what) for run in finished))
        if figure.n:
            spread = f"{figure.range()}, " if figure.n > 1 else ""
            ends = f"; 95 %: {interval_text(figure.interval)}" if figure.n > 1 else ""
            say(f"{title} {figure.percent()} ({spread}n = {figure.n}{ends})")


def _as_begun(asked: Asked, earlier: Run) -> tuple[Asked, dict[str, Any]]:
    """What an earlier run of the same name was asked, where nothing else is, and what its record adds."""
    record = earlier.record
    # The seeds and the folds are those that are asked for now: each run has its own.
    before = replace(asked.as_before(record), seed=asked.seed, fold=None)
    return before, {"within": record["within"]} if record.get("within") else {}


def _newest(out: Path, name: str, plan: Plan) -> Run | None:
    """The newest run of this name and recipe file."""
    runs = []
    for folder in folders_of(out, name):
        with suppress(ValueError):
            runs.append(Run.read(folder))
    file = plan.record()["recipe_file"]
    ours = [run for run in runs if run.record.get("recipe_file") == file]
    return max(ours, key=lambda run: run.started, default=None)


def _before(newest: Run, name: str, within: str) -> dict[str, Any] | None:
    """The record of the newest run of this name that was to end within the same time.

    Raises ValueError where the newest of all is unfinished, and was not.
    """
    assert newest.folder is not None
    for folder in reversed(folders_of(newest.folder.parent, name)):
        with suppress(ValueError):
            planned_before(folder, within)
            return Run.read(folder).record
    if not newest.over:
        planned_before(newest.folder, within)
    return None


def _raise_worst(failed: list[Run], seeds: int) -> None:
    """Raise what the worst of the failures is, as it would be alone: a number that is none, a mistake."""
    for kind, error in ((NOT_FINITE, NotFinite), (MISTAKE, ValueError), (None, TrainingFailed)):
        for run in failed:
            if kind in (None, run.record.get(FAILURE)):
                raise error(
                    f"{len(failed)} of {seeds} runs failed, with seed {run.record.get('seed')}: "
                    f"{run.record.get('error')}"
                )


def _show(runs: list[Run]) -> None:
    """A table with a row for each run."""
    shown = [what for what in _FIGURES if any(not math.isnan(measured(run, what)) for run in runs)]
    rows, folded = [], any(_fold(run) for run in runs)
    for run in runs:
        good = run.status == "finished"
        figures = [percent(measured(run, what)) if good else "-" for what in shown]
        seconds = duration(measured(run, "seconds"))
        number = [str(_fold(run))] if folded else []
        rows.append((str(run.folder), run.status, str(run.record.get("seed")), *number, *figures, seconds))
    titles = (*(["fold"] if folded else []), *(_FIGURES[what] for what in shown))
    say()
    table(("run", "status", "seed", *titles, "time"), rows, left=2)
