"""`budgetnet check`: look at data before they are trained on."""

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import Photos
from budgetnet.cli.complete import recipes
from budgetnet.cli.failures import MISTAKEN
from budgetnet.cli.options import PIXELS, data_option, environment, gathered, idle, json_option, set_option

if TYPE_CHECKING:
    from budgetnet.data import Data, Inspection
    from budgetnet.plan import Plan


_OF_PHOTOS = ("--size", "--shape", "--part", "--images", "--name", "--label", "--groups")


@click.command()
@click.argument("target", metavar="DATA|TABLE|FILE|NAME", required=False, shell_complete=recipes)
@gathered(
    "photos",
    Photos,
    click.option(
        "--size",
        type=PIXELS,
        metavar="PIXELS",
        help="Store the photos at this size, as folder(size=) will want them; by default nothing is kept.",
    ),
    click.option(
        "--shape",
        type=click.Choice(["crop", "squash"]),
        default="crop",
        show_default=True,
        help="How photos become square, as for folder().",
    ),
    click.option(
        "--part",
        multiple=True,
        metavar="PART=FOLDER",
        help="The folder of train, val or test, instead of DATA, where names do not say it. Repeatable. Of a "
        "table: --part COLUMN, which says train, val or test of each row, or --part train=FILE.",
    ),
    click.option("--images", metavar="FOLDER", help="Of a table: the folder of its photos."),
    click.option("--name", metavar="COLUMN", help="Of a table: the column of the photos' names."),
    click.option(
        "--label",
        metavar="COLUMN",
        multiple=True,
        help="Of a table: the column of the classes; repeated, the one-hot columns.",
    ),
    click.option(
        "--groups",
        metavar="COLUMN|PATTERN",
        help="What must not lie on both sides of a split: a table's column, or what this pattern finds in a "
        "photo's path, such as 'patient[0-9]+'.",
    ),
)
@click.option("--policies", is_flag=True, help="Print what is done with each kind of oddity, and stop.")
@gathered("asked", Asked, data_option, set_option)
@json_option("Print one JSON object, every file named.")
def command(target: str | None, photos: Photos, policies: bool, asked: Asked, as_json: bool) -> None:
    """Look at data before they are trained on.

    DATA is a folder of photos, TABLE a CSV or TSV file with a line for each of them; every photo is read
    once. A recipe's data() are loaded and looked at,
    and one step of each of its phases is tried; nothing is downloaded. All that is odd is named, with what is
    done about it, and the images of each class are counted. Exits with 2 where a run would be refused.
    """
    from budgetnet.data import policies as all_policies

    if policies:
        idle("--policies prints what is done with any data", "--json", "--data", "--set", *_OF_PHOTOS)
        click.echo(all_policies())
        return
    table = target is not None and _is_table(target, asked)
    if (target is None) == (not photos.part) and not table:
        raise click.UsageError(
            "name a folder of photos or a recipe, or a table of labels, or parts, or ask for --policies"
        )
    recipe = target if target is not None and not table and not _is_folder(target, asked) else None
    if recipe:
        idle(f"they are for photos or a table, and {recipe} is a recipe: check its folder", *_OF_PHOTOS)
    else:
        idle("it changes a recipe, and these are photos", "--set")
    plan, data, inspection = (
        _of_recipe(recipe, asked) if recipe else (None, None, _of_folder(target, asked, photos))
    )
    # Plain lines: a terminal that is too narrow wraps them, and nothing is cut.
    click.echo(json.dumps(inspection.json(), indent=2) if as_json else str(inspection))
    if inspection.refused:
        click.get_current_context().exit(MISTAKEN)
    if plan is not None and data is not None:
        # What is worth noting of the rest is said by --dry-run.
        from budgetnet.trainer import Trainer

        Trainer(out=None, show=False).check(plan.model(), data, plan.recipe)


def _is_folder(target: str, asked: Asked) -> bool:
    """Whether `target` is a folder, here or below the folder that holds data."""
    from budgetnet.data import data_root

    below = data_root(asked.root) / target
    path = Path(target).expanduser()
    # What ends on a slash was meant as a folder, and is missed as one.
    return path.is_dir() or target.endswith(("/", os.sep)) or (not path.exists() and below.is_dir())


def _is_table(target: str, asked: Asked) -> bool:
    """Whether `target` is a file, here or below the folder that holds data, and no recipe."""
    from budgetnet.data import data_root

    path = Path(target).expanduser()
    return path.suffix != ".py" and (path.is_file() or (data_root(asked.root) / target).is_file())


def _of_folder(target: str | None, asked: Asked, photos: Photos) -> "Inspection":
    from budgetnet.data import inspect

    with environment("BUDGETNET_DATA", asked.root) if asked.root is not None else nullcontext():
        columns = photos.columns(parts=target is not None)
        return inspect(target or photos.named(), size=photos.size, shape=photos.shape, **columns)


def _of_recipe(recipe: str, asked: Asked) -> "tuple[Plan, Data, Inspection]":
    """A recipe with its data, which are not downloaded."""
    from budgetnet.cli.overview import at_hand
    from budgetnet.data import Unavailable, inspect
    from budgetnet.plan import titles

    if not Path(recipe).is_file() and recipe not in titles():
        raise ValueError(f"there is neither a folder of photos nor a recipe {recipe}: name one of them")
    plan = asked.plan(recipe)
    data, missing = at_hand(plan)
    if data is None:
        raise Unavailable(missing)
    return plan, data, inspect(data)
