"""`budgetnet list`: list the recipes that come along, and the runs."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from budgetnet.cli.options import json_option, out_option

_COLUMNS = ("run", "status", "started", "epochs", "val", "test")
"""What of a run is shown, and can be sorted by: the last three the largest first."""


@click.command()
@out_option("runs", "The folder that holds the runs.")
@click.option("--runs", "only", is_flag=True, help="List the runs alone.")
@click.option(
    "--sort", type=click.Choice(_COLUMNS), metavar="COLUMN", help=f"By {', '.join(_COLUMNS)}; else by age."
)
@json_option("Print one JSON object.")
def command(out: str, only: bool, sort: str | None, as_json: bool) -> None:
    """List the recipes that come along, and the runs."""
    from budgetnet.console import say, table
    from budgetnet.plan import titles
    from budgetnet.run import RECORD

    folders = sorted(
        (path for path in Path(out).glob("*") if (path / RECORD).is_file()),
        key=lambda path: ((path / RECORD).stat().st_mtime, path.name),
    )
    runs = [described(folder) for folder in folders]
    if sort is not None:
        falling = sort in ("epochs", "val", "test")
        runs.sort(key=lambda run: _rank(run[sort], falling))
    if as_json:
        recipes = {} if only else {"recipes": titles()}
        click.echo(json.dumps({**recipes, "runs": runs}, indent=2))
        return
    if not only:
        table(("recipe", "what it does"), list(titles().items()), left=2)
        say()
    if not runs:
        say(f"no runs in {out} yet; `budgetnet run quickstart` makes one")
        return
    columns = ("run", "status", "started", "epochs", "validation", "test")
    table(columns, [row(run) for run in runs], left=3)


def _rank(value: Any, falling: bool) -> tuple[bool, Any]:
    """What is not known comes last."""
    return value is None, "" if value is None else -value if falling else value


def described(folder: Path) -> dict[str, Any]:
    """What there is to say of the run in a folder; None for what is not known."""
    from budgetnet.run import Run

    facts: dict[str, Any] = {**dict.fromkeys(_COLUMNS), "run": str(folder), "external": ""}
    try:
        run = Run.read(folder)
        latest = run.history[-1].val_accuracy if run.history else math.nan
        figures = {
            "val": run.result.get("val_accuracy", latest),
            "test": run.result.get("test_accuracy", math.nan),
        }
        figures = {name: None if math.isnan(figure) else float(figure) for name, figure in figures.items()}
    except (ValueError, KeyError, TypeError, OSError):
        return {**facts, "status": "unreadable"}
    started, external = str(run.record.get("started", "")), run.record.get("external") or ""
    epochs = len(run.history)
    return {
        **facts,
        "status": run.status,
        "started": started,
        "epochs": epochs,
        "planned": run.record.get("planned"),
        **figures,
        "external": external,
    }


def row(run: Mapping[str, Any]) -> tuple[str, ...]:
    """A run's row of the table."""
    from budgetnet.text import percent

    if run["status"] == "unreadable":
        return (run["run"], "unreadable", "", "", "", "")
    unfinished = run["status"] != "finished" and run["planned"] is not None
    return (
        run["run"],
        run["status"] + (", external weights" if run["external"] else ""),
        run["started"][:16].replace("T", " "),
        f"{run['epochs']:,}" + (f"/{run['planned']:,}" if unfinished else ""),
        *(percent(math.nan if run[name] is None else run[name]) for name in ("val", "test")),
    )
