"""`budgetnet list` and `budgetnet copy`: the recipes that come along, and the runs so far."""

import difflib
import math
from pathlib import Path

from budgetnet.console import say, table
from budgetnet.plan import shelf, titles
from budgetnet.run import RECORD, Run
from budgetnet.text import percent


def list_shelf(out: str) -> None:
    """Print the shipped recipes with their titles, and the runs in the folder `out` with their accuracy."""
    table(("recipe", "what it does"), titles().items(), left=2)
    folders = sorted(
        (path for path in Path(out).glob("*") if (path / RECORD).is_file()),
        key=lambda path: ((path / RECORD).stat().st_mtime, path.name),
    )
    say()
    if not folders:
        say(f"no runs in {out} yet; `budgetnet run quickstart` makes one")
        return
    columns = ("run", "status", "started", "epochs", "validation", "test")
    table(columns, [_row(folder) for folder in folders], left=3)


def _row(folder: Path) -> tuple[str, ...]:
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


def copy_recipe(name: str, to: str | None) -> None:
    """Copy a shipped recipe to a file or folder. Raises ValueError rather than overwrite anything."""
    known = list(titles())
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"budgetnet brings no recipe {name!r}; {hint}")
    target = Path(to) if to is not None else Path(f"{name}.py")
    if target.is_dir():
        target = target / f"{name}.py"
    content = (shelf() / f"{name}.py").read_bytes()
    try:
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise ValueError(
            f"{target} is there already, and is not overwritten; name another file: budgetnet copy {name} TO"
        ) from None
    except OSError as error:
        raise ValueError(f"{target} cannot be written: {error.strerror}; name another file") from None
    say(f"{target}: change what you like, and budgetnet run {target}")
