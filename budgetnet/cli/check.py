"""`budgetnet check`: what is odd about a folder of photos, or about a recipe's data."""

import json
import os
from pathlib import Path

import click

from budgetnet.cli.options import Asked, Photos, environment
from budgetnet.cli.overview import at_hand
from budgetnet.data import Inspection, Unavailable, inspect
from budgetnet.plan import Plan, titles


def check_target(target: str | None, asked: Asked, photos: Photos, *, as_json: bool) -> Inspection:
    """Print what was found in a folder of photos, or in the data of a recipe. Nothing is downloaded.

    Raises ValueError where a recipe's run would be refused for more than its data.
    """
    plan, data = None, None
    if target is None or _is_folder(target, asked):
        inspection = _of_folder(target or photos.named(), asked, photos)
    else:
        plan = _plan(target, asked)
        data, missing = at_hand(plan)
        if data is None:
            raise Unavailable(missing)
        inspection = inspect(data)
    # Plain lines: a terminal that is too narrow wraps them, and nothing is cut.
    click.echo(json.dumps(inspection.json(), indent=2) if as_json else str(inspection))
    if plan is not None and data is not None and not inspection.refused:
        # What is worth noting of the rest is said by --dry-run.
        from budgetnet.trainer import Trainer

        Trainer(out=None, show=False).check(plan.model(), data, plan.recipe)
    return inspection


def _is_folder(target: str, asked: Asked) -> bool:
    """Whether `target` is a folder, here or below the folder that holds data."""
    below = Path(asked.root or os.environ.get("BUDGETNET_DATA") or "data") / target
    path = Path(target).expanduser()
    # What ends on a slash was meant as a folder, and is missed as one.
    return path.is_dir() or target.endswith(os.sep) or (not path.exists() and below.is_dir())


def _of_folder(root: str | dict[str, str], asked: Asked, photos: Photos) -> Inspection:
    if asked.root is not None:
        with environment("BUDGETNET_DATA", asked.root):
            return inspect(root, size=photos.size, shape=photos.shape)
    return inspect(root, size=photos.size, shape=photos.shape)


def _plan(target: str, asked: Asked) -> Plan:
    if not Path(target).is_file() and target not in titles():
        raise ValueError(f"there is neither a folder of photos nor a recipe {target}: name one of them")
    return asked.plan(target)
