"""`budgetnet copy`: copy a recipe that comes along, to change it."""

import difflib
import os
from pathlib import Path

import click

from budgetnet.cli.complete import recipes


@click.command()
@click.argument("name", metavar="NAME", shell_complete=recipes)
@click.argument("to", metavar="[TO]", required=False)
def command(name: str, to: str | None) -> None:
    """Copy a recipe that comes along, to change it.

    It becomes the file TO, or a file in the folder TO, which is made where TO ends with a slash; by default
    NAME.py here. Nothing is ever overwritten.
    """
    from budgetnet.console import say
    from budgetnet.plan import recipes_folder, titles

    known = list(titles())
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"budgetnet brings no recipe {name!r}; {hint}")
    target = Path(to) if to is not None else Path(f"{name}.py")
    content = (recipes_folder() / f"{name}.py").read_bytes()
    try:
        if to is not None and to.endswith(("/", os.sep)):
            target.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            target = target / f"{name}.py"
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise ValueError(
            f"{target} is there already, and is not overwritten; name another file: budgetnet copy {name} TO"
        ) from None
    except OSError as error:
        raise ValueError(f"{target} cannot be written: {error.strerror}; name another file") from None
    say(f"{target}: change what you like, and budgetnet run {target}")
