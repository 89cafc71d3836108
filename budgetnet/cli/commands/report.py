"""`budgetnet report`: a page of a run, or of several runs, and its pictures as files."""

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.complete import models
from budgetnet.cli.options import data_option, device_option, gathered, set_option


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=models)
@click.option(
    "--recipe",
    metavar="RECIPE",
    help="Whose data and views are shown; of a recipe that comes along, the run names it itself.",
)
@gathered("asked", Asked, data_option, set_option)
@click.option("--out", metavar="DIR", help="Where it goes.  [default: the run's folder; report for several]")
@device_option
def command(
    runs: tuple[str, ...], recipe: str | None, asked: Asked, out: str | None, device: str | None
) -> None:
    """Write report.html of a run, or of several beside one another.

    One file that needs nothing else, and its pictures as PNG and SVG beside it: the accuracy with its
    interval, budget, curves, confusion matrix, the most confidently mistaken images, training views, accuracy
    and MACs over resolutions, where the time went. What needs images takes them from RECIPE's data() where
    they are at hand: nothing is downloaded, and no recipe that does not come along is executed unless you
    name it.
    """
    from budgetnet.cli.report import report_runs

    report_runs(runs, recipe, asked, out=out, device=device)
