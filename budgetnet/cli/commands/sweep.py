"""`budgetnet sweep`: train a recipe with every combination of some settings."""

import sys
from contextlib import nullcontext, redirect_stdout

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import Machine, Searching, Shown, Trials, Where
from budgetnet.cli.options import (
    SEEDS,
    data_option,
    gathered,
    json_option,
    machine_options,
    recipe_argument,
    scale_option,
    seed_option,
    set_option,
    where_options,
    within_option,
)


@click.command()
@recipe_argument
@gathered(
    "tried",
    Trials,
    click.option(
        "--over",
        multiple=True,
        metavar="PATH=VALUE,VALUE",
        help="Try these values of one setting, as --set names it. Repeatable: all combinations are tried.",
    ),
    click.option(
        "--search",
        "searched",
        multiple=True,
        metavar="PATH=RANGE",
        help="Search one setting instead, by what other trials gave: LOW..HIGH, LOW..HIGH:STEP, "
        "log:LOW..HIGH, or VALUE,VALUE. Repeatable. Needs optuna.",
    ),
    click.option(
        "--seeds",
        type=SEEDS,
        default=1,
        show_default=True,
        metavar="N",
        help="Train each combination with N seeds.",
    ),
    click.option(
        "--metric",
        default="val_accuracy",
        show_default=True,
        metavar="FIGURE",
        help="The mean of what, on the validation images, decides: val_accuracy, val_loss, or one of the "
        "recipe's metrics, such as val_f1.",
    ),
)
@gathered(
    "searching",
    Searching,
    click.option(
        "--trials",
        type=click.IntRange(1, 1_000_000),
        default=100,
        show_default=True,
        metavar="N",
        help="With --search: try N settings; those over the budget are refused and do not count.",
    ),
    click.option(
        "--prune",
        type=click.Choice(["auto", "halving", "median", "hyperband", "none"]),
        default="auto",
        show_default=True,
        help="With --search: end trials early, after an epoch (median, hyperband), or after the recipe at a "
        "ninth and a third of its length (halving). auto: halving where the recipe is long enough.",
    ),
    within_option("With --search: end the whole search in this time (8h, 90m)."),
    click.option(
        "--storage",
        envvar="BUDGETNET_STORAGE",
        metavar="URL",
        help="With --search: a database that workers on many machines share (postgresql://user@host/name); "
        "by default a file in the sweep's folder.",
    ),
    click.option(
        "--against",
        multiple=True,
        type=click.Choice(["params", "macs", "bytes", "latency"]),
        help="With --search: find the best for each of these costs, too. Repeatable.",
    ),
)
@gathered("where", Where, *where_options)
@gathered("asked", Asked, data_option, scale_option, set_option, seed_option)
@gathered("machine", Machine, *machine_options("Where the sweep's folder is made."))
@click.option("--name", help="What the sweep's folder is called; by default RECIPE-sweep-N.")
@click.option(
    "--resume",
    is_flag=True,
    help="Train only what is not finished in the folder of this --name, or the latest, and go on exactly.",
)
@gathered(
    "shown",
    Shown,
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but the result."),
    json_option("Print the result alone, as JSON: what sweep.json holds."),
)
def command(
    recipe: str,
    tried: Trials,
    searching: Searching,
    where: Where,
    asked: Asked,
    machine: Machine,
    name: str | None,
    resume: bool,
    shown: Shown,
) -> None:
    """Try many settings of a recipe, all of a grid or by a search.

    One is chosen on the validation images. The trials never see the test images; the chosen setting is
    measured on them in the end, once. Every run has a folder, beside sweep.json and sweep.csv. The same
    --search again goes on with it; started several times at once, each takes trials.
    """
    if bool(tried.over) == bool(tried.searched):
        raise click.UsageError("give what is tried: --over for all combinations of values, or --search")
    where.check()
    if tried.over:
        searching.unlike(click.get_current_context())
    from budgetnet.cli.sweep import show_sweep, swept

    quiet = shown.quiet or shown.as_json
    with redirect_stdout(sys.stderr) if shown.as_json else nullcontext():
        result = swept(
            recipe, tried, searching, where, asked, machine.trainer(show=not quiet), (name, resume)
        )
    show_sweep(result, quiet=quiet, as_json=shown.as_json)
