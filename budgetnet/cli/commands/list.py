"""`budgetnet list`: list the recipes that come along, and the runs."""

import math
from pathlib import Path

import click

from budgetnet.cli.options import out_option


@click.command()
@out_option("runs", "The folder that holds the runs.")
def command(out: str) -> None:
    """List the recipes that come along, and the runs."""
    from budgetnet.console import say, table
    from budgetnet.plan import titles
    from budgetnet.run import RECORD

    table(("recipe", "what it does"), list(titles().items()), left=2)
    folders = sorted(
        (path for path in Path(out).glob("*") if (path / RECORD).is_file()),
        key=lambda path: ((path / RECORD).stat().st_mtime, path.name),
    )
    say()
    if not folders:
        say(f"no runs in {out} yet; `budgetnet run quickstart` makes one")
        return
    columns = ("run", "status", "started", "epochs", "validation", "test")
    table(columns, [row(folder) for folder in folders], left=3)


def row(folder: Path) -> tuple[str, ...]:
    """A run's row of the table."""
    from budgetnet.run import Run
    from budgetnet.text import percent

    try:
        run = Run.read(folder)
    except (ValueError, KeyError, TypeError, OSError):
        return (str(folder), "unreadable", "", "", "", "")
    latest = run.history[-1].val_accuracy if run.history else math.nan
    started = str(run.record.get("started", ""))[:16].replace("T", " ")
    val, test = (run.result.get(key) for key in ("val_accuracy", "test_accuracy"))
    return (
        str(folder),
        run.status + (", external weights" if run.record.get("external") else ""),
        started,
        f"{len(run.history):,}",
        percent(latest if val is None else float(val)),
        percent(math.nan if test is None else float(test)),
    )
