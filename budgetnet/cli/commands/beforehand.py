"""`count`, `check`, `list`, `copy` and `preview`: the commands for before a training."""

from typing import Literal

import click

from budgetnet.cli.failures import MISTAKEN
from budgetnet.cli.options import (
    PIXELS,
    Asked,
    Number,
    asking,
    data_option,
    out_option,
    scale_option,
    seed_option,
    set_option,
)


@click.command()
@click.argument("target", metavar="FILE|NAME|RUN|MODEL")
@click.option(
    "--resolution",
    type=PIXELS,
    multiple=True,
    metavar="PIXELS",
    help="Count MACs at this resolution instead of the recipe's or the model's. Repeatable.",
)
@click.option("--depth", type=Number(1, 1000), help="Add up modules by this many parts of their names.")
@click.option("--budget", metavar="AMOUNT", help='Check against so many parameters: "2M".')
@click.option(
    "--summary",
    "layers",
    is_flag=True,
    help="List the layers in the order of execution, as torchsummary does.",
)
@click.option(
    "--recipe", help="The recipe file whose model() builds a model that budgetnet cannot by itself."
)
@asking(set_option)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def count(
    target: str,
    asked: Asked,
    resolution: tuple[int, ...],
    depth: int | None,
    budget: str | None,
    layers: bool,
    recipe: str | None,
    as_json: bool,
) -> None:
    """Show what a model costs, module by module.

    Parameters, MACs, activations, and what its budget leaves. The model is a recipe's (FILE or NAME), a
    run's (its folder) or a saved one (MODEL.safetensors).
    """
    from budgetnet.cli.count import View, count_target

    count_target(target, asked, recipe, View(resolution, depth, budget, as_json, layers))


@click.command()
@click.argument("target", metavar="DATA|FILE|NAME", required=False)
@click.option(
    "--size",
    type=PIXELS,
    metavar="PIXELS",
    help="Store the photos at this size, as folder(size=) will want them; by default nothing is kept.",
)
@click.option(
    "--shape",
    type=click.Choice(["crop", "squash"]),
    default="crop",
    show_default=True,
    help="How photos become square, as for folder().",
)
@click.option(
    "--part",
    "parts",
    multiple=True,
    metavar="PART=FOLDER",
    help="The folder of train, val or test, instead of DATA, where names do not say it. Repeatable.",
)
@click.option("--policies", is_flag=True, help="Print what is done with each kind of oddity, and stop.")
@asking(data_option, set_option)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, every file named.")
def check(
    target: str | None,
    asked: Asked,
    size: int | None,
    shape: Literal["crop", "squash"],
    parts: tuple[str, ...],
    policies: bool,
    as_json: bool,
) -> None:
    """Look at data before they are trained on.

    DATA is a folder of photos, every one of which is read once; a recipe's data() are loaded and looked at,
    and one step of each of its phases is tried; nothing is downloaded. All that is odd is named, with what is
    done about it, and the images of each class are counted. Exits with 2 where a run would be refused.
    """
    from budgetnet.cli.check import Photos, check_target, show_policies

    if policies:
        show_policies()
    elif (target is None) == (not parts):
        raise click.UsageError("name a folder of photos or a recipe, or its parts, or ask for --policies")
    elif check_target(target, asked, Photos(size, shape, parts), as_json=as_json).refused:
        click.get_current_context().exit(MISTAKEN)


@click.command("list")
@out_option("runs", "The folder that holds the runs.")
def list_(out: str) -> None:
    """List the recipes that come along, and the runs."""
    from budgetnet.cli.shelf import list_shelf

    list_shelf(out)


@click.command()
@click.argument("name", metavar="NAME")
@click.argument("to", metavar="[TO]", required=False)
def copy(name: str, to: str | None) -> None:
    """Copy a recipe that comes along, to change it.

    It becomes the file TO, or a file in the folder TO; by default NAME.py here. Nothing is ever overwritten.
    """
    from budgetnet.cli.shelf import copy_recipe

    copy_recipe(name, to)


@click.command()
@click.argument("recipe", metavar="FILE|NAME")
@click.option("--out", metavar="DIR", help="Where the PNG files go.  [default: preview/NAME]")
@asking(data_option, scale_option, set_option, seed_option)
def preview(recipe: str, asked: Asked, out: str | None) -> None:
    """Show a recipe's schedules and augmented images.

    The schedules are plotted here and into schedule.png; for each phase a grid of training views becomes a
    PNG too, where the data are at hand: nothing is downloaded.
    """
    from budgetnet.cli.preview import preview_recipe

    preview_recipe(recipe, asked, out)
