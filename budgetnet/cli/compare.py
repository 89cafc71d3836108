"""`budgetnet compare`: what differs between runs, their figures, and their curves."""

import json
from pathlib import Path

import click

from budgetnet.cli.target import RUNS
from budgetnet.compare import compare, read_runs
from budgetnet.console import characters, say
from budgetnet.report import NoPlot, save_curves
from budgetnet.run import RECORD

CURVES = "curves.png"


def compare_runs(names: tuple[str, ...], out: str | None, *, as_json: bool) -> None:
    """Print the comparison of runs, by folder or by name below runs/, and draw their curves into a PNG.

    As JSON the curves are drawn only where a folder for them is named.
    """
    found = compare(read_runs([_folder(name) for name in names]))
    if as_json:
        click.echo(json.dumps(found.json(), indent=2))
    else:
        say(shown(str(found)))
    if as_json and out is None:
        return
    path = Path(out or "compare") / CURVES
    try:
        save_curves(found.runs, path)
    except NoPlot as error:
        say(f"no curves: {error}", error=as_json)
    else:
        say(f"wrote {path}", error=as_json)


def shown(text: str) -> str:
    """A text as the terminal can show it."""
    return text if characters("±") else text.replace("±", "+-")


def _folder(name: str) -> Path:
    path = Path(name)
    below = Path(RUNS) / name
    return below if not path.exists() and (below / RECORD).exists() else path
