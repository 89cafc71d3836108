"""`budgetnet compare`: show what differs between runs, their figures, and their curves."""

import json
from pathlib import Path

import click

from budgetnet.cli.choices import Compared
from budgetnet.cli.complete import models, recipes
from budgetnet.cli.options import data_option, device_option, gathered, idle, json_option


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=models)
@gathered(
    "how",
    Compared,
    click.option("--ci", "intervals", is_flag=True, help="With the 95 % interval of each accuracy."),
    click.option(
        "--format",
        "form",
        type=click.Choice(["table", "latex", "markdown", "csv"]),
        default="table",
        show_default=True,
        help="The figures alone, for a paper, a page or a program.",
    ),
    click.option(
        "--paired",
        metavar="RECIPE",
        shell_complete=recipes,
        help="Measure the runs on the same images, those of this recipe's data(), each against the first.",
    ),
    click.option(
        "--split",
        type=click.Choice(["val", "test", "train"]),
        default="val",
        show_default=True,
        help="On which part, for --paired.",
    ),
    click.option("--out", metavar="DIR", help="Where curves.png goes.  [default: compare]"),
    json_option("Print one JSON object; curves only with --out. With --paired, too."),
    data_option,
    device_option,
)
def command(runs: tuple[str, ...], how: Compared) -> None:
    """Show what differs between runs, and their figures.

    Runs that are equal but for their seed form one group, with mean, standard deviation and range. No recipe
    is executed but one that --paired names: each run's answers to the very same images are compared with the
    first one's, by McNemar's exact test.
    """
    out, as_json = how.out, how.as_json
    if how.paired is not None:
        idle("--paired measures the runs anew, and shows no table of them", "--ci", "--format", "--out")
        from budgetnet.cli.paired import paired_runs
        from budgetnet.console import say

        found = paired_runs(runs, how.paired, how.split, how.root, how.device)
        if as_json:
            click.echo(json.dumps(found.json(), indent=2))
        else:
            say(str(found))
        return
    why = "they are for --paired RECIPE, which measures; without it records are read"
    idle(why, "--split", "--data", "--device")
    from budgetnet.cli.trained import find_run
    from budgetnet.compare import compare, read_runs
    from budgetnet.console import say
    from budgetnet.reporting import NoPlot, save_curves

    comparison = compare(read_runs([find_run(name) for name in runs]))
    if as_json:
        click.echo(json.dumps(comparison.json(), indent=2))
    else:
        text = comparison.text(intervals=how.intervals, form=how.form)
        # A program reads what is no table.
        say(text) if how.form == "table" else click.echo(text)
    if (as_json or how.form != "table") and out is None:
        return
    path = Path(out or "compare") / "curves.png"
    try:
        save_curves(comparison.runs, path)
    except NoPlot as error:
        say(f"no curves: {error}", error=as_json or how.form != "table")
    else:
        say(f"wrote {path}", error=as_json or how.form != "table")
