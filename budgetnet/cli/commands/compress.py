"""`budgetnet compress`: a trained model into a file of so many bytes."""

import click

from budgetnet.cli.options import Asked, Machine, data_option, gathered, machine_options, set_option


@click.command()
@click.argument("target", metavar="RUN|MODEL")
@click.argument("recipe", metavar="RECIPE", required=False)
@click.option(
    "--bytes",
    "most",
    default="300KB",
    show_default=True,
    metavar="BYTES",
    help="The most that the file may weigh, header and all: 300KB is 300,000, 300KiB 307,200.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 100_000),
    default=30,
    show_default=True,
    metavar="N",
    help="How long it is trained anew.",
)
@gathered("machine", Machine, *machine_options("Where the new run is written."))
@gathered("asked", Asked, data_option, set_option)
def command(target: str, recipe: str | None, most: str, epochs: int, machine: Machine, asked: Asked) -> None:
    """Put a trained model into a file of so many bytes.

    It gets fewer bits a weight, and where that is not enough fewer channels, and is trained anew to do with
    them, taught by the model that it was. The images and views are those of RECIPE, which the run names
    itself where budgetnet brings it along. What comes out is a run as any other.
    """
    from budgetnet.cli.compress import compress_target

    compress_target(target, recipe, asked, machine, most, epochs)
