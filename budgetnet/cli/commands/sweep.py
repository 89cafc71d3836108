"""`budgetnet sweep`: train a recipe with every combination of some settings."""

from dataclasses import dataclass
from typing import Literal

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.options import (
    SEEDS,
    Machine,
    data_option,
    gathered,
    machine_options,
    recipe_argument,
    scale_option,
    seed_option,
    set_option,
    together_option,
)


@dataclass(frozen=True)
class Trials:
    """Which settings are tried with how many seeds, and how one is chosen."""

    over: tuple[str, ...]
    seeds: int
    together: int | Literal["auto"]
    metric: str


@click.command()
@recipe_argument
@gathered(
    "trials",
    Trials,
    click.option(
        "--over",
        multiple=True,
        required=True,
        metavar="PATH=VALUE,VALUE",
        help="Try these values of one setting, as --set names it. Repeatable: all combinations are tried.",
    ),
    click.option(
        "--seeds",
        type=SEEDS,
        default=1,
        show_default=True,
        metavar="N",
        help="Train each combination with N seeds.",
    ),
    together_option,
    click.option(
        "--metric",
        default="val_accuracy",
        show_default=True,
        metavar="FIGURE",
        help="The mean of what, on the validation images, decides: val_accuracy, val_loss, or one of the "
        "recipe's metrics, such as val_f1.",
    ),
)
@gathered("asked", Asked, data_option, scale_option, set_option, seed_option)
@gathered("machine", Machine, *machine_options("Where the sweep's folder is made."))
@click.option("--name", help="What the sweep's folder is called; by default RECIPE-sweep-N.")
@click.option(
    "--resume",
    is_flag=True,
    help="Train only what is not finished in the folder of this --name, or the latest, and go on exactly.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the result.")
def command(
    recipe: str, trials: Trials, asked: Asked, machine: Machine, name: str | None, resume: bool, quiet: bool
) -> None:
    """Train a recipe with every combination of some settings.

    One is chosen on the validation images. The trials never see the test images; the chosen setting is
    measured on them in the end, once. Every run has a folder, beside sweep.json and sweep.csv.
    """
    from budgetnet.console import say
    from budgetnet.sweep import read_over, sweep
    from budgetnet.trainer import TrainingFailed

    trainer, values = machine.trainer(show=not quiet), read_over(trials.over)
    plan = asked.plan(recipe)
    if not quiet:
        say(plan.title)
    result = sweep(
        trainer,
        plan,
        values,
        seeds=trials.seeds,
        metric=trials.metric,
        name=name,
        resume=resume,
        together=trials.together,
        record=asked.record(plan),
    )
    if not quiet:
        say()
    say(str(result))
    say(f"the sweep lies in {result.folder}: sweep.json, sweep.csv, and a folder for each run")
    if result.selected is None:
        raise TrainingFailed("no trial of the sweep came to a validation figure; see above why")
