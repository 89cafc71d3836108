"""Repeat: one plan trained with several seeds, each into a folder of its own, one by one or together."""

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from budgetnet.console import say
from budgetnet.data import Data
from budgetnet.files import check_name, checkpoint, folders_of, new_folder
from budgetnet.identity import told
from budgetnet.plan import Plan
from budgetnet.process import check_launch, steadfast
from budgetnet.run import Run
from budgetnet.sweep.capacity import Capacity, Together, capacity
from budgetnet.sweep.clustered import clustered
from budgetnet.sweep.job import FAILED, FAILURE, Job, kind_of
from budgetnet.sweep.outside import folds_mark
from budgetnet.sweep.shared import shared_size
from budgetnet.sweep.workers import trained
from budgetnet.text import seconds
from budgetnet.trainer import Session, Trainer, TrainingFailed, check_out
from budgetnet.values import whole


@dataclass(frozen=True)
class Manner:
    """How several runs are trained: how many `together`, going on with earlier ones or not, for how long.

    With `folds` each seed trains a run for each of so many folds of the data.
    """

    together: Together = 1
    resume: bool = False
    max_time: float | str | None = None
    folds: int | None = None


def seeds(
    trainer: Trainer,
    plan: Plan,
    n: int,
    *,
    name: str | None = None,
    together: Together = 1,
    resume: bool = False,
    max_time: float | str | None = None,
    folds: int | None = None,
) -> list[Run]:
    """Train a plan `n` times, with its recipe's seed and the n - 1 that follow it, and return the runs.

    The data are loaded once; the first weights are drawn from each seed. Each run has a folder of its own in
    the trainer's `out`, called `name` (the recipe file's by default). A training that fails leaves a run
    whose status is "failed", and the others are still run. Mistakes are refused with a ValueError before
    the first step.

    `together` runs, or "auto", are trained at once, in processes that share out torch's threads; each has
    the bits that it would have alone with as many threads, and is given read from its folder, without its
    model. With `resume` the finished runs of the same name, recipe and data are not trained again, and
    interrupted ones go on exactly. After `max_time` (as for `fit`) the runs are paused.

    With `folds` each seed trains a run for each of so many folds of the data (`Data.folds`), and
    `out_of_fold` gives what each image was called by the models that had not seen it.

    ::

        runs = seeds(Trainer(), read_plan("mine.py"), 3)
        print(compare(runs))
    """
    whole("seeds", n)
    check_out(trainer.out, (name or plan.name,), plan.model(), plan.recipe, runs=n * (folds or 1))
    manner = Manner(together, resume, max_time, folds)
    return list(seeded(trainer, plan, n, plan.data(), name=name or plan.name, manner=manner))


def seeded(
    trainer: Trainer,
    plan: Plan,
    n: int,
    data: Data,
    *,
    name: str,
    manner: Manner = Manner(),
    record: Mapping[str, Any] | None = None,
) -> Iterator[Run]:
    """The runs of `seeds` as they end, on data that are loaded; `record` is added to their records."""
    check_launch()
    whole("seeds", n)
    limit = seconds(manner.max_time)
    folds = data.folds(manner.folds) if manner.folds is not None else ()
    many = capacity(manner.together, trainer, [plan], n * max(1, len(folds)), shared_size(data))
    out = Path(trainer.out) if trainer.out is not None else Path()
    resume = manner.resume and trainer.out is not None
    jobs = []
    told_of = dict(record) if record is not None else recorded(plan)
    for at, (title, each, of_fold) in enumerate(_variants(plan, n, folds), start=1):
        total = n * max(1, len(folds))
        part = of_fold.get("fold", {}).get("at")
        prints = _prints(data if part is None else folds[part]) if resume else {}
        job = Job(
            title if many.apart else f"{title} ({at} of {total})",
            each,
            out,
            check_name(name),
            {**told_of, **of_fold},
        )
        earlier = _earlier(job, prints) if resume else None
        if earlier is not None and earlier.over:
            if trainer.show:
                say(f"{title}: {earlier.status} already, in {earlier.folder}")
            yield earlier
        else:
            if resume and earlier is None and trainer.show and _older(job):
                say(
                    "note: whether earlier runs are of this recipe cannot be told: their records tell no code"
                )
            jobs.append(replace(job, folder=earlier.folder if earlier is not None else None))
    if many.apart and jobs:
        # Before a process is made for it: what any of them would be refused for.
        trainer.check(jobs[0].plan.model(), data, jobs[0].plan.recipe)
    chosen = partial(_chosen, data, folds)
    yield from (run for _, run in worked(trainer, jobs, many, chosen, limit))


def _chosen(data: Data, folds: Sequence[Data], plan: Plan) -> Data:
    return data if plan.fold is None else folds[plan.fold[0]]


def _prints(data: Data) -> dict[str, str]:
    return {name: split.fingerprint() for name, split in data.splits.items()}


def _variants(plan: Plan, n: int, folds: Sequence[Data]) -> Iterator[tuple[str, Plan, dict[str, Any]]]:
    """Each seed, and with folds each fold of it: its name, its plan, what its record says of the fold."""
    whole = folds_mark(folds)
    for seed in range(plan.recipe.seed, plan.recipe.seed + n):
        seeded = plan.changed(f"recipe.seed={seed}")
        if not folds:
            yield f"seed {seed}", seeded, {}
        for at in range(len(folds)):
            fold = {"at": at, "of": len(folds), "whole": whole}
            title = f"fold {at + 1}, seed {seed}" if n > 1 else f"fold {at + 1}"
            yield title, seeded.folded(at, len(folds)), {"fold": fold}


def worked(
    trainer: Trainer,
    jobs: Sequence[Job],
    many: Capacity,
    data_of: Callable[[Plan], Data],
    limit: float | None = None,
) -> Iterator[tuple[int, Run]]:
    """Train jobs in this process one by one, or together; gives the number and the run of each as it ends."""
    if many.apart:
        if trainer.watch:
            raise ValueError(
                "watchers are functions of this process, and runs that are trained together have processes "
                "of their own: train them one after another (together=1), or without watch="
            )
        if many.on is not None:
            yield from clustered(many.on, trainer, jobs, limit)
            return
        options = {told([dict(job.plan.data_options), job.plan.fold]) for job in jobs}
        data = data_of(jobs[0].plan) if len(options) == 1 else None
        for at, run in trained(trainer, jobs, many, data, limit=limit):
            _tell_aside(trainer, run)
            yield at, run
        return
    until = None if limit is None else time.monotonic() + limit
    for at, job in enumerate(jobs):
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            return
        if trainer.show:
            say(job.name)
        run = train(trainer, job, data_of, left, first=at == 0)
        yield at, run
        if not ended(run):
            return


def _tell_aside(trainer: Trainer, run: Run) -> None:
    """Of a run that a worker went on with, what must not be missed where nothing is shown."""
    last = (run.record.get("sessions") or [{}])[-1]
    if trainer.aside is not None and not trainer.show:
        for note in last.get("moved", []) if isinstance(last, dict) else []:
            trainer.aside(f"{run.folder}: note: {note}")


def train(
    trainer: Trainer,
    job: Job,
    data_of: Callable[[Plan], Data],
    limit: float | None,
    heed: Callable[[Run], None] | None = None,
    *,
    first: bool = False,
) -> Run:
    """One run in this process, which `heed` is told of after each epoch.

    It may fail, and says so; what the first is refused for, all would be.
    """
    run = Run(record={"seed": job.plan.recipe.seed, **job.record}, source=job.plan.source)
    try:
        data = data_of(job.plan) if job.tested else replace(data_of(job.plan), test=None)
        model, recipe = job.plan.model(), job.plan.recipe
        make = None if trainer.out is None else partial(new_folder, job.out, job.called)
        epochs = trainer.start(model, data, recipe, run, Session(job.folder, max_time=limit), make)
    except ValueError as error:
        if first and job.folder is None:
            raise
        return _failed(trainer, job, run, error)
    except Exception as error:
        return _failed(trainer, job, run, error)
    try:
        for _ in epochs:
            if heed is not None:
                heed(run)
    except Exception as error:
        return _failed(trainer, job, run, error)
    return run


def _failed(trainer: Trainer, job: Job, run: Run, error: Exception) -> Run:
    """The run that ended with this error; its record says so, and keeps what kind of failure it was."""
    kind, text = kind_of(error), " ".join(str(error).split()) or type(error).__name__
    if kind == FAILED and not isinstance(error, TrainingFailed):
        traceback.print_exc(file=steadfast(sys.stderr))
    if trainer.show:
        say(f"failed: {text}")
    if run.status == "failed":
        with suppress(OSError):
            run.note(**{FAILURE: kind})
        return run
    # Nothing was begun: what lies there, if anything, is as it was.
    if job.folder is not None:
        with suppress(ValueError):
            run = Run.read(job.folder)
    run.record |= {"status": "failed", "error": text, FAILURE: kind}
    return run


def _earlier(job: Job, prints: Mapping[str, str]) -> Run | None:
    """The newest run of the job's name, recipe and data that is finished or can go on, if there is one."""
    for folder in reversed(folders_of(job.out, job.called)):
        try:
            run = Run.read(folder)
        except ValueError:
            continue
        if _same(run, job, prints) and (run.over or goes_on(run)):
            return run
    return None


def _older(job: Job) -> bool:
    """Whether there is a run of the job's name and seed from before records told code and attributes."""
    for folder in folders_of(job.out, job.called):
        with suppress(ValueError):
            record = Run.read(folder).record
            if record.get("seed") == job.plan.recipe.seed and "described" not in record:
                return True
    return False


def _same(run: Run, job: Job, prints: Mapping[str, str]) -> bool:
    """Whether a run was begun as this job would be, on data with these fingerprints."""
    record, now = run.record, job.plan.describe()
    same = record.get("data", {}).get("fingerprints") == prints and record.get("recipe") == now["recipe"]
    return same and record.get("code") == now["code"]["model"] and _settings(record) == _settings(job.record)


def _settings(record: Mapping[str, Any]) -> list[str]:
    """The settings that change a recipe's functions; those of its values show in the recipe."""
    settings = record.get("settings") or []
    return sorted(str(text) for text in settings if str(text).startswith(("data.", "model.")))


def goes_on(run: Run) -> bool:
    """Whether a run is not finished, be it that it failed, and has something to go on from."""
    assert run.folder is not None
    return not run.over and checkpoint.any_in(run.folder)


def ended(run: Run) -> bool:
    """Whether a run came to its end, be it a bad one; one that a notebook's user interrupts does not."""
    return run.over or run.status == "failed"


def recorded(plan: Plan) -> dict[str, Any]:
    """What a run's record says of the recipe file that it was made from, and of what was changed in it."""
    options = {"data": plan.data_options, "model": plan.model_options}
    changed = [
        f"{room}.{name}={value if isinstance(value, str) else told(value)}"
        for room, values in options.items()
        for name, value in values.items()
    ]
    return {**plan.record(), "scale": None, "settings": changed}
