"""Repeat: one plan trained with several seeds, each into a folder of its own."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from budgetnet.console import say
from budgetnet.data import Data
from budgetnet.plan import Plan
from budgetnet.run import Run
from budgetnet.trainer import Trainer, TrainingFailed, check_out


def seeds(trainer: Trainer, plan: Plan, n: int, *, name: str | None = None) -> list[Run]:
    """Train a plan `n` times, with its recipe's seed and the n - 1 that follow it, and return the runs.

    The data are loaded once; the first weights are drawn from each seed. Each run has a folder of its own in
    the trainer's `out`, called `name` (the recipe file's by default). A training that fails leaves a run
    whose status is "failed", and the others are still run. Mistakes are refused with a ValueError before
    the first step.

    ::

        runs = seeds(Trainer(), read_plan("mine.py"), 3)
        print(compare(runs))
    """
    check_count(n)
    check_out(trainer.out, (name or plan.name,), plan.model(), plan.recipe, runs=n)
    return list(seeded(trainer, plan, n, plan.data(), name=name or plan.name))


def seeded(
    trainer: Trainer,
    plan: Plan,
    n: int,
    data: Data,
    *,
    name: str,
    record: Mapping[str, Any] | None = None,
) -> Iterator[Run]:
    """The runs of `seeds` one by one, on data that are loaded already; `record` is added to their records."""
    check_count(n)
    for at in range(n):
        seed = plan.recipe.seed + at
        if trainer.show:
            say(f"seed {seed} ({at + 1} of {n})")
        run = train(trainer, with_seed(plan, seed), data, name=name, record=record)
        yield run
        if not ended(run):
            return


def train(
    trainer: Trainer,
    plan: Plan,
    data: Data,
    *,
    name: str,
    out: str | Path | None = None,
    record: Mapping[str, Any] | None = None,
) -> Run:
    """One run of a plan, in a new folder in `out` (the trainer's by default); it may fail, and says so."""
    run = Run(record=dict(record) if record is not None else recorded(plan))
    model = plan.model()
    epochs = trainer.epochs(model, data, plan.recipe, run)
    where = out or trainer.out
    if where is not None:
        # Only now: what was refused leaves no folder.
        run.folder = Run.new(where, checked_name(name)).folder
    try:
        for _ in epochs:
            pass
    except (TrainingFailed, torch.OutOfMemoryError):
        # The run's record says what happened.
        assert run.status == "failed", run.status
    return run


def ended(run: Run) -> bool:
    """Whether a run came to its end, be it a bad one; one that a notebook's user interrupts does not."""
    return run.status in ("finished", "failed")


def recorded(plan: Plan) -> dict[str, Any]:
    """What a run's record says of the recipe file that it was made from, and of what was changed in it."""
    options = {"data": plan.data_options, "model": plan.model_options}
    changed = [
        f"{room}.{name}={value if isinstance(value, str) else repr(value)}"
        for room, held in options.items()
        for name, value in held.items()
    ]
    return {"recipe_file": str(plan.path.resolve()), "scale": None, "settings": changed}


def with_seed(plan: Plan, seed: int) -> Plan:
    """The plan with another seed."""
    return replace(plan, recipe=replace(plan.recipe, seed=seed))


def check_count(n: int) -> None:
    """Refuse a number of seeds that is none."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"seeds should be a whole number of 1 or more, not {n!r}")


def checked_name(name: str) -> str:
    """`name`, where it can be the name of a folder."""
    if not name or Path(name).name != name:
        raise ValueError(f"a run's name should be the name of a folder, without slashes, not {name!r}")
    return name
