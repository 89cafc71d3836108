"""`budgetnet compress`: a trained model into a file of so many bytes, trained anew on a recipe's images."""

from dataclasses import dataclass

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import Machine
from budgetnet.cli.options import (
    data_option,
    gathered,
    images_argument,
    machine_options,
    max_time_option,
    model_argument,
    resume_option,
    set_option,
    within_option,
)


@dataclass(frozen=True)
class Wanted:
    """What the file is to be, and how long it is trained for."""

    most: str
    budget: str | None
    epochs: int
    int8: bool


@dataclass(frozen=True)
class Sitting:
    """What the new run is called, and how a session of it begins and ends."""

    name: str | None
    resume: str | None
    max_time: str | None
    within: str | None


@click.command()
@model_argument
@images_argument
@gathered(
    "wanted",
    Wanted,
    click.option(
        "--bytes",
        "most",
        default="300KB",
        show_default=True,
        metavar="BYTES",
        help="The most that the file may weigh, header and all: 300KB is 300,000, 300KiB 307,200.",
    ),
    click.option(
        "--budget",
        metavar="AMOUNTS",
        help='More that it has to keep to, such as "stored=int8, ram=64KB, resolution=32": the bytes of the '
        "eight-bit export, its RAM, MACs, or a latency.",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(1, 100_000),
        default=30,
        show_default=True,
        metavar="N",
        help="How long it is trained anew.",
    ),
    click.option(
        "--int8", is_flag=True, help="Learn activations of eight bits, too, as `export --int8` makes them."
    ),
)
@gathered("machine", Machine, *machine_options("Where the new run is written."))
@gathered("asked", Asked, data_option, set_option)
@gathered(
    "sitting",
    Sitting,
    click.option("--name", help="What the new run's folder is called; by default as recipe and bytes."),
    max_time_option,
    resume_option,
    within_option(
        "Train for fewer epochs where so many do not end in this time (3h, 90m) here, measured first."
    ),
)
def command(
    target: str, recipe: str | None, wanted: Wanted, machine: Machine, asked: Asked, sitting: Sitting
) -> None:
    """Put a trained model into a file of so many bytes.

    It gets fewer bits a weight, and where that is not enough fewer channels, and is trained anew to do with
    them, taught by the model that it was. The images and views are those of RECIPE, which the run names
    itself where budgetnet brings it along. What comes out is a run as any other; Ctrl-C and SIGTERM end it at
    a step's end, and the same command with --resume goes on.
    """
    from budgetnet.budget import Budget
    from budgetnet.cli.compress import compress_target
    from budgetnet.compression import Goal
    from budgetnet.trainer import Session

    # Refuses an amount that is none, before anything is read.
    limit = (
        Budget(bytes=wanted.most)
        if wanted.budget is None
        else Budget(f"{wanted.budget}, bytes={wanted.most}")
    )
    goal = Goal(limit, wanted.epochs, activations=8 if wanted.int8 else None)
    session = Session(sitting.resume, max_time=sitting.max_time, within=sitting.within)
    name = sitting.name, wanted.most
    compress_target(target, recipe, goal, machine.trainer(show=True), asked, session, name)
