"""`budgetnet check`: what is odd about a folder of photos, or about a recipe's data."""

import json
import os
from pathlib import Path
from typing import Literal

import click

from budgetnet.cli.offline import at_hand
from budgetnet.cli.options import Asked, environment
from budgetnet.data import Inspection, Unavailable, inspect, policies


def check_target(
    target: str, asked: Asked, size: int | None, shape: Literal["crop", "squash"], *, as_json: bool
) -> Inspection:
    """Print what was found in a folder of photos, or in the data of a recipe. Nothing is downloaded."""
    found = _of_folder(target, asked, size, shape) if _is_folder(target, asked) else _of_recipe(target, asked)
    # Plain lines: a terminal that is too narrow wraps them, and nothing is cut.
    click.echo(json.dumps(found.json(), indent=2) if as_json else str(found))
    return found


def show_policies() -> None:
    """Print the table of all kinds."""
    click.echo(policies())


def _is_folder(target: str, asked: Asked) -> bool:
    """Whether `target` is a folder, here or below the folder that holds data."""
    below = Path(asked.root or os.environ.get("BUDGETNET_DATA") or "data") / target
    path = Path(target).expanduser()
    # What ends on a slash was meant as a folder, and is missed as one.
    return path.is_dir() or target.endswith(os.sep) or (not path.exists() and below.is_dir())


def _of_folder(target: str, asked: Asked, size: int | None, shape: Literal["crop", "squash"]) -> Inspection:
    if asked.root is not None:
        with environment("BUDGETNET_DATA", asked.root):
            return inspect(target, size=size, shape=shape)
    return inspect(target, size=size, shape=shape)


def _of_recipe(target: str, asked: Asked) -> Inspection:
    from budgetnet.plan import titles

    if not Path(target).is_file() and target not in titles():
        raise ValueError(f"there is neither a folder of photos nor a recipe {target}: name one of them")
    data, missing = at_hand(asked.plan(target))
    if data is None:
        raise Unavailable(missing)
    return inspect(data)
