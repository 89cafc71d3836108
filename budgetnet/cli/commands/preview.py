"""`budgetnet preview`: show a recipe's schedules and augmented images."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.options import (
    data_option,
    gathered,
    recipe_argument,
    scale_option,
    seed_option,
    set_option,
)

if TYPE_CHECKING:
    from budgetnet.plan import Plan


@click.command()
@recipe_argument
@click.option("--out", metavar="DIR", help="Where the PNG files go.  [default: preview/NAME]")
@gathered("asked", Asked, data_option, scale_option, set_option, seed_option)
def command(recipe: str, out: str | None, asked: Asked) -> None:
    """Show a recipe's schedules and augmented images.

    The schedules are plotted here and into schedule.png; for each phase a grid of training views becomes a
    PNG too, where the data are at hand: nothing is downloaded.
    """
    from budgetnet.console import characters, columns, say
    from budgetnet.reporting import NoPlot, curve, plot, save_schedules

    plan = asked.plan(recipe)
    folder = Path(out) if out is not None else Path("preview") / plan.name
    say(plan.title)
    width, plain = min(columns(), 100), not characters("⣿│─")
    curves = {
        "learning rate": (curve(plan.recipe, "lr"), 8),
        "resolution in pixels": (curve(plan.recipe, "resolution"), 4),
    }
    for title, (stretches, height) in curves.items():
        say()
        say(title)
        say(plot(stretches, width=width, height=height, ascii_only=plain))
    say()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"the folder {folder} cannot be made: {error.strerror}; choose another --out"
        ) from None
    _save_views(plan, folder)
    path = folder / "schedule.png"
    try:
        save_schedules(plan.recipe, path)
    except NoPlot as error:
        say(f"no {path.name}: {error}")
    else:
        say(f"wrote {path}")


def _save_views(plan: "Plan", folder: Path) -> None:
    """Write a grid of views for each phase, where the data are at hand."""
    from budgetnet.cli.overview import at_hand
    from budgetnet.console import say
    from budgetnet.reporting import save_png, views

    data, missing = at_hand(plan)
    if data is None:
        say(f"no images are shown: {missing}")
        return
    for number, phase in enumerate(plan.recipe.phases, start=1):
        grid = views(data.train, phase, classes=len(data.classes), seed=plan.recipe.seed)
        ending = re.sub(r"[^A-Za-z0-9_-]+", "-", phase.name).strip("-")
        path = folder / (f"phase-{number}-{ending}.png" if ending else f"phase-{number}.png")
        save_png(grid, path)
        say(f"wrote {path}")
