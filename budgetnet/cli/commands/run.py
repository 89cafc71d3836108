"""`budgetnet run`: train a recipe, once or with several seeds."""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import Machine, Shown, Where
from budgetnet.cli.failures import PAUSED
from budgetnet.cli.options import (
    SEEDS,
    budget_option,
    data_option,
    folds_option,
    gathered,
    importing,
    json_option,
    machine_options,
    max_time_option,
    recipe_argument,
    resume_option,
    scale_option,
    seed_option,
    set_option,
    sync_option,
    where_options,
    within_option,
)
from budgetnet.process import check_launch, launched

if TYPE_CHECKING:
    from budgetnet.run import Run


@dataclass(frozen=True)
class Ending:
    """What a session goes on with or follows, how long it and the whole run may take, and what may differ."""

    resume: str | None
    after: str | None
    max_time: str | None
    allow: tuple[str, ...]
    within: str | None

    def check(self, asked: Asked, seeds: int | None, where: Where) -> None:
        """Refuse what cannot be asked at once."""
        where.check()
        if seeds is not None and (self.after is not None or self.resume):
            raise click.UsageError(
                "--seeds goes on with the runs of this recipe and name (--resume), not with one run that is "
                "named, and not --after one"
            )
        if seeds is not None and self.allow:
            raise click.UsageError("--allow-change is for one run that goes on, and --seeds trains several")
        if seeds is None and where.several:
            raise click.UsageError("--together and --on are for several runs: give --seeds too")
        if self.within is not None and asked.scale is not None:
            raise click.UsageError("--within chooses the scale that ends in time: give it or --scale")
        if self.within is not None and where.several:
            raise click.UsageError(
                "--within measures a run that has the machine to itself, and --together gives it company: "
                "leave one of the two out"
            )


@click.command()
@recipe_argument
@gathered("asked", Asked, data_option, budget_option, folds_option, scale_option, set_option, seed_option)
@gathered("machine", Machine, *machine_options("Where the run's numbered folder is made."), sync_option)
@click.option("--name", help="What the run's folder is called; by default as the recipe.")
@click.option(
    "--dry-run", is_flag=True, help="Check and show everything, and stop before training; no download."
)
@click.option(
    "--seeds",
    type=SEEDS,
    metavar="N",
    help="Train N runs, with the seed and those that follow it, and show the spread of their figures.",
)
@gathered("where", Where, *where_options)
@gathered(
    "ending",
    Ending,
    max_time_option,
    resume_option,
    click.option(
        "--allow-change",
        "allow",
        multiple=True,
        metavar="PATH",
        help="With --resume: go on although this has changed (recipe.phases.0.epochs). Repeatable.",
    ),
    within_option(
        "Scale the whole recipe down to end in this time (3h, 90m) here, measured first; with --seeds "
        "all the runs, one after another. A shorter recipe stays as it is; --resume keeps the scale.",
    ),
    click.option(
        "--after",
        metavar="RUN",
        help="Begin this recipe's schedule from the weights of RUN, with its history; from a model file, or "
        "a model that comes along, too.",
    ),
)
@gathered(
    "shown",
    Shown,
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but the result."),
    json_option("Print the result alone, as one JSON object."),
)
def command(
    recipe: str,
    asked: Asked,
    machine: Machine,
    name: str | None,
    dry_run: bool,
    seeds: int | None,
    where: Where,
    ending: Ending,
    shown: Shown,
) -> None:
    """Train a recipe: a file, or one that comes along.

    The run is written to a new folder: model.safetensors, run.json, and metrics.jsonl with a line an epoch.
    Ctrl-C and SIGTERM end it at a step's end, ready for --resume. Several GPUs train one run together with
    torchrun --nproc-per-node gpu -m budgetnet run FILE.
    """
    with importing():
        from budgetnet.cli.run import run_dry, run_recipe
        from budgetnet.trainer import Session

    quiet = shown.quiet or shown.as_json or not _leads()
    trainer = machine.trainer(show=not (quiet or dry_run))
    seeds = 1 if seeds is None and asked.folds is not None else seeds
    ending.check(asked, seeds, where)
    if dry_run or seeds is not None:
        check_launch()
    if dry_run and shown.as_json:
        raise click.UsageError("--json is of a result, and a dry run has none: leave one of the two out")
    if dry_run and seeds is not None and ending.resume is not None:
        raise click.UsageError(
            "--dry-run shows one run that goes on: leave out --resume, or --seeds and --folds"
        )
    if dry_run:
        count = (seeds or 1) * (asked.folds or 1)
        run_dry(recipe, asked, trainer, name=name, seeds=count, session=Session(**vars(ending)))
        return
    # What is said all the same is no part of the object, and of several processes one speaks.
    aside = sys.stderr if _leads() else StringIO()
    with redirect_stdout(aside) if shown.as_json or not _leads() else nullcontext():
        if seeds is None:
            session = Session(**vars(ending))
            runs = [run_recipe(recipe, asked, trainer, name=name, quiet=quiet, session=session)]
        else:
            from budgetnet.cli.seeds import run_seeds
            from budgetnet.sweep import Manner

            together = where.chosen(alone=ending.within is not None)
            manner = Manner(together, ending.resume is not None, ending.max_time, asked.folds)
            runs = run_seeds(
                recipe,
                asked,
                trainer,
                name=name,
                quiet=quiet,
                seeds=seeds,
                manner=manner,
                within=ending.within,
            )
    _end(runs, seeds, len(runs) if seeds is None else seeds * (asked.folds or 1), shown)


def _leads() -> bool:
    """Whether this process is the one that speaks, of those that torchrun started."""
    launch = launched()
    return launch is None or launch.rank == 0


def _end(runs: "Sequence[Run]", seeds: int | None, count: int, shown: Shown) -> None:
    """Print the result, where it is asked for, and exit as `count` runs, if all are finished, did."""
    if shown.as_json and _leads():
        described = [run.described() for run in runs]
        click.echo(json.dumps(described[0] if seeds is None else {"runs": described}, indent=2))
    if launched() is not None:
        # torchrun takes any other code for a failure, and would start everything again.
        return
    finished = sum(run.status == "finished" for run in runs)
    if runs[0].status == "paused" if seeds is None else finished < count:
        click.get_current_context().exit(PAUSED)
