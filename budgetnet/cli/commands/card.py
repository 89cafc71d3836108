"""`budgetnet card`: a trained model's card, filled in from its run."""

import click

from budgetnet.cli.options import licence_option, model_argument


@click.command()
@model_argument
@licence_option
@click.option("--out", metavar="FILE", help="Write to FILE instead of the terminal.")
def command(target: str, licence: str, out: str | None) -> None:
    """Print a trained model's card, filled in from its run.

    It says the data, the budget, each figure with its number of images and 95 % interval, what the model
    began from, its limits and its licence. `budgetnet push` publishes it with the model.
    """
    from pathlib import Path

    from budgetnet.cli.trained import trained
    from budgetnet.console import say
    from budgetnet.exporting import model_card
    from budgetnet.files import check_writable, write_whole

    page = model_card(trained(target).file, licence=licence)
    if out is None:
        say(page.rstrip("\n"))
        return
    check_writable(Path(out))
    write_whole(Path(out), page.encode())
    say(f"the card is {out}")
