"""`run` and `sweep`: the commands that train."""

from typing import Literal

import click

from budgetnet.cli.failures import PAUSED
from budgetnet.cli.options import (
    SEEDS,
    Asked,
    Machine,
    asking,
    data_option,
    scale_option,
    seed_option,
    set_option,
    together_option,
    training_on,
)


@click.command()
@click.argument("recipe", metavar="FILE|NAME")
@asking(data_option, scale_option, set_option, seed_option)
@training_on("Where the run's numbered folder is made.")
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
@together_option
@click.option(
    "--max-time",
    metavar="TIME",
    help="End the session at a step's end after so long (11h30m, 90s), exit with 75; --resume goes on.",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[RUN]",
    help="Go on with an unfinished run exactly: RUN, or the newest of this recipe; or begin it.",
)
@click.option(
    "--allow-change",
    "allow",
    multiple=True,
    metavar="PATH",
    help="With --resume: go on although this has changed (recipe.phases.0.epochs). Repeatable.",
)
@click.option(
    "--after", metavar="RUN", help="Begin this recipe's schedule from the weights of RUN, with its history."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the result.")
def run(
    recipe: str,
    asked: Asked,
    machine: Machine,
    name: str | None,
    dry_run: bool,
    seeds: int | None,
    together: int | Literal["auto"],
    max_time: str | None,
    resume: str | None,
    allow: tuple[str, ...],
    after: str | None,
    quiet: bool,
) -> None:
    """Train a recipe: a file, or one that comes along.

    The run is written to a new folder: model.safetensors, run.json, and metrics.jsonl with a line an epoch.
    Ctrl-C and SIGTERM end it at a step's end, ready for --resume.
    """
    from budgetnet.cli.run import dry_run as try_out
    from budgetnet.cli.run import run_recipe
    from budgetnet.trainer import Session

    trainer = machine.trainer(show=not (quiet or dry_run))
    if seeds is not None and (after is not None or resume):
        raise click.UsageError(
            "--seeds goes on with the runs of this recipe and name (--resume), not with one run that is "
            "named, and not --after one"
        )
    if seeds is not None and allow:
        raise click.UsageError("--allow-change is for one run that goes on, and --seeds trains several")
    if seeds is None and together not in ("auto", 1):
        raise click.UsageError("--together is for several runs: give --seeds too")
    if dry_run:
        try_out(recipe, asked, trainer, name=name, seeds=seeds or 1)
    elif seeds is not None:
        from budgetnet.cli.seeds import run_seeds
        from budgetnet.sweep import Manner

        manner = Manner(together, resume is not None, max_time)
        if not run_seeds(recipe, asked, trainer, name=name, quiet=quiet, seeds=seeds, manner=manner):
            click.get_current_context().exit(PAUSED)
    else:
        session = Session(resume, after, max_time, allow)
        done = run_recipe(recipe, asked, trainer, name=name, quiet=quiet, session=session)
        if done.status == "paused":
            click.get_current_context().exit(PAUSED)


@click.command()
@click.argument("recipe", metavar="FILE|NAME")
@click.option(
    "--over",
    multiple=True,
    required=True,
    metavar="PATH=VALUE,VALUE",
    help="Try these values of one setting, as --set names it. Repeatable: all combinations are tried.",
)
@click.option(
    "--seeds",
    type=SEEDS,
    default=1,
    show_default=True,
    metavar="N",
    help="Train each combination with N seeds.",
)
@together_option
@click.option(
    "--metric",
    type=click.Choice(["val_accuracy", "val_loss"]),
    default="val_accuracy",
    show_default=True,
    help="The mean of what, on the validation images, decides.",
)
@asking(data_option, scale_option, set_option, seed_option)
@training_on("Where the sweep's folder is made.")
@click.option("--name", help="What the sweep's folder is called; by default RECIPE-sweep-N.")
@click.option(
    "--resume",
    is_flag=True,
    help="Train only what is not finished in the folder of this --name, or the latest, and go on exactly.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the result.")
def sweep(
    recipe: str,
    over: tuple[str, ...],
    asked: Asked,
    seeds: int,
    together: int | Literal["auto"],
    metric: Literal["val_accuracy", "val_loss"],
    machine: Machine,
    name: str | None,
    resume: bool,
    quiet: bool,
) -> None:
    """Train a recipe with every combination of some settings.

    One is chosen on the validation images. The trials never see the test images; the chosen setting is
    measured on them in the end, once. Every run has a folder, beside sweep.json and sweep.csv.
    """
    from budgetnet.cli.sweep import Swept, sweep_recipe

    trainer = machine.trainer(show=not quiet)
    sweep_recipe(recipe, asked, trainer, over, Swept(seeds, metric, name, resume, together))
