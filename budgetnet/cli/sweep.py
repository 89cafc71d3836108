"""`budgetnet sweep`: a grid trained, or a search, and what is printed of it."""

import json

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import Searching, Trials, Where
from budgetnet.cli.failures import PAUSED
from budgetnet.console import say
from budgetnet.sweep import Effort, Sweep, read_over, read_search, search, sweep
from budgetnet.trainer import Trainer, TrainingFailed


def swept(
    recipe: str,
    trials: Trials,
    searching: Searching,
    where: Where,
    asked: Asked,
    trainer: Trainer,
    folder: tuple[str | None, bool],
) -> Sweep:
    """The sweep that was asked for; `folder` is what it is called, and whether a grid goes on in it."""
    name, resume = folder
    over, searched = read_over(trials.over), read_search(trials.searched)
    plan = asked.plan(recipe)
    if trainer.show:
        say(plan.title)
    record = asked.record(plan)
    if searched:
        return search(
            trainer,
            plan,
            searched,
            trials=searching.trials,
            metric=trials.metric,
            against=searching.against,
            effort=Effort(trials.seeds, searching.prune, searching.within, searching.storage, where.chosen()),
            name=name,
            record=record,
        )
    return sweep(
        trainer,
        plan,
        over,
        seeds=trials.seeds,
        metric=trials.metric,
        name=name,
        resume=resume,
        together=where.chosen(),
        record=record,
    )


def show_sweep(result: Sweep, *, quiet: bool, as_json: bool) -> None:
    """Print what came of a sweep. Raises TrainingFailed where nothing could be chosen."""
    if as_json:
        click.echo(json.dumps({"folder": result.folder.as_posix(), **result.json()}, indent=2))
    else:
        if not quiet:
            say()
        say(str(result))
        say(f"the sweep lies in {result.folder}: sweep.json, sweep.csv, and a folder for each run")
    if result.selected is None and result.searched and not result.done:
        click.get_current_context().exit(PAUSED)
    if result.selected is None:
        raise TrainingFailed("no trial of the sweep came to a validation figure; see above why")
