"""`budgetnet new`: write a recipe for a folder of photos, to edit."""

from pathlib import Path

import click

from budgetnet.cli.options import idle


@click.command()
@click.argument("folder", metavar="DIR|TABLE")
@click.option(
    "--budget",
    default="2M",
    show_default=True,
    metavar="AMOUNTS",
    help='What the model may have: parameters, or "bytes=300KB, stored=int8, ram=64KB, resolution=64".',
)
@click.option("--images", metavar="FOLDER", help="Of a table: the folder of its photos.")
@click.option("--name", metavar="COLUMN", help="Of a table: the column of the photos' names.")
@click.option("--label", metavar="COLUMN", help="Of a table: the column of the classes.")
@click.option("--out", metavar="FILE", help="The recipe's file; by default DIR's name and .py, here.")
def command(folder: str, budget: str, out: str | None, **columns: str | None) -> None:
    """Write a recipe for the photos in DIR, to edit.

    DIR holds a folder for each class, or the CSV file TABLE says what they show (docs/data.md). They are
    looked at, and the recipe that `budgetnet run photos --data DIR` would train is written to a file, every
    value in its place. Nothing is overwritten.
    """
    if Path(folder).is_dir():
        idle(f"they are for a table of labels, and {folder} is a folder", "--images", "--name", "--label")
    from budgetnet.cli.new import recipe_for
    from budgetnet.console import say
    from budgetnet.data import look

    found = look(folder, **columns)
    target = Path(out) if out is not None else Path(f"{found.root.resolve().name}.py")
    text = recipe_for(folder, found, budget, target, columns)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ValueError(
            f"{target} is there already, and is not overwritten; name another with --out"
        ) from None
    except OSError as error:
        raise ValueError(f"{target} cannot be written: {error.strerror}; name another with --out") from None
    say(str(found))
    say(f"{target}: change what you like, and budgetnet run {target}")
