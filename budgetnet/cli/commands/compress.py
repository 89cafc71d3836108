"""`budgetnet compress`: a trained model into a file of so many bytes, trained anew on a recipe's images."""

import re

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import Machine
from budgetnet.cli.options import (
    data_option,
    gathered,
    images_argument,
    machine_options,
    model_argument,
    set_option,
)


@click.command()
@model_argument
@images_argument
@click.option(
    "--bytes",
    "most",
    default="300KB",
    show_default=True,
    metavar="BYTES",
    help="The most that the file may weigh, header and all: 300KB is 300,000, 300KiB 307,200.",
)
@click.option(
    "--budget",
    metavar="AMOUNTS",
    help='More that it has to keep to, such as "stored=int8, ram=64KB, resolution=32": the bytes of the '
    "eight-bit export, its RAM, MACs, or a latency.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 100_000),
    default=30,
    show_default=True,
    metavar="N",
    help="How long it is trained anew.",
)
@click.option(
    "--int8", is_flag=True, help="Learn activations of eight bits, too, as `export --int8` makes them."
)
@gathered("machine", Machine, *machine_options("Where the new run is written."))
@gathered("asked", Asked, data_option, set_option)
def command(
    target: str,
    recipe: str | None,
    most: str,
    budget: str | None,
    epochs: int,
    int8: bool,
    machine: Machine,
    asked: Asked,
) -> None:
    """Put a trained model into a file of so many bytes.

    It gets fewer bits a weight, and where that is not enough fewer channels, and is trained anew to do with
    them, taught by the model that it was. The images and views are those of RECIPE, which the run names
    itself where budgetnet brings it along. What comes out is a run as any other.
    """
    from budgetnet.budget import Budget
    from budgetnet.cli.trained import load_trained, shipped_recipe, trained
    from budgetnet.compression import compress
    from budgetnet.console import say
    from budgetnet.modelfile import read_card

    # Refuses an amount that is none, before anything is read.
    limit = Budget(bytes=most) if budget is None else Budget(f"{budget}, bytes={most}")
    large = trained(target)
    named = recipe or shipped_recipe(large, target)
    if named is None:
        raise ValueError(
            "compress takes its images and views from a recipe, and executes no recipe that is not named; "
            f"name it: budgetnet compress {target} {large.recipe_file or 'RECIPE'}"
        )
    plan = large.plan(asked, named)
    data = plan.data()
    for note in large.flattered(data.val, "val"):
        say(f"note: {note}")
    trainer = machine.trainer(show=True)
    name = f"{plan.path.stem}_{re.sub('[^0-9a-z]', '', most.lower())}"
    model = large.file if read_card(large.file).builder is not None else load_trained(large, plan)
    done = compress(
        model,
        data,
        plan.recipe,
        bytes=limit,
        epochs=epochs,
        activations=8 if int8 else None,
        trainer=trainer,
        name=name,
    )
    say(str(done))
    if done.run.folder is not None:
        click.echo(f"the file is {done.run.folder / 'model.safetensors'}")
