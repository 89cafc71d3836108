"""`budgetnet compress`: a trained model into a file of so many bytes, trained anew on a recipe's images."""

import re

import click

from budgetnet.budget import Budget
from budgetnet.cli.options import Asked, Machine
from budgetnet.cli.trained import load_trained, trained
from budgetnet.compression import compress
from budgetnet.console import say
from budgetnet.modelfile import read_card
from budgetnet.plan import titles


def compress_target(
    target: str, recipe: str | None, asked: Asked, machine: Machine, most: str, epochs: int
) -> None:
    """Compress the model that `target` names, and print what it was and what it is."""
    Budget(bytes=most)  # refuses an amount that is none, before anything is read
    found = trained(target)
    # No recipe is executed that is not named, but for those that budgetnet brings along.
    named = recipe or next((name for name in (found.recipe_file, target) if name in titles()), None)
    if named is None:
        raise ValueError(
            "compress takes its images and views from a recipe, and executes no recipe that is not named; "
            f"name it: budgetnet compress {target} {found.recipe_file or 'RECIPE'}"
        )
    plan = asked.plan(named, before=found.settings)
    trainer = machine.trainer(show=True)
    name = f"{plan.path.stem}_{re.sub('[^0-9a-z]', '', most.lower())}"
    model = found.file if read_card(found.file).builder is not None else load_trained(found, plan)
    done = compress(model, plan.data(), plan.recipe, bytes=most, epochs=epochs, trainer=trainer, name=name)
    say(str(done))
    if done.run.folder is not None:
        click.echo(f"the file is {done.run.folder / 'model.safetensors'}")
