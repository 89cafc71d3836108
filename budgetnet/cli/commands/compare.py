"""`budgetnet compare`: show what differs between runs, their figures, and their curves."""

import json
from pathlib import Path

import click

from budgetnet.cli.complete import models
from budgetnet.cli.options import json_option


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=models)
@click.option("--out", metavar="DIR", help="Where curves.png goes.  [default: compare]")
@json_option("Print one JSON object; curves only with --out.")
def command(runs: tuple[str, ...], out: str | None, as_json: bool) -> None:
    """Show what differs between runs, and their figures.

    Runs that are equal but for their seed form one group, with mean, standard deviation and range. No recipe
    is executed.
    """
    from budgetnet.compare import compare, read_runs
    from budgetnet.console import say
    from budgetnet.reporting import NoPlot, save_curves

    comparison = compare(read_runs([_folder(name) for name in runs]))
    if as_json:
        click.echo(json.dumps(comparison.json(), indent=2))
    else:
        say(str(comparison))
    if as_json and out is None:
        return
    path = Path(out or "compare") / "curves.png"
    try:
        save_curves(comparison.runs, path)
    except NoPlot as error:
        say(f"no curves: {error}", error=as_json)
    else:
        say(f"wrote {path}", error=as_json)


def _folder(name: str) -> Path:
    """A run's folder, as a path or below runs/."""
    from budgetnet.run import RECORD

    path, below = Path(name), Path("runs") / name
    return below if not path.exists() and (below / RECORD).exists() else path
