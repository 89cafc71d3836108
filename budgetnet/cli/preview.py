"""`budgetnet preview`: a recipe's schedules and augmented images, to look at before training."""

import re
from pathlib import Path

from budgetnet.cli.offline import at_hand
from budgetnet.cli.options import Asked
from budgetnet.console import characters, columns, say
from budgetnet.plan import Plan
from budgetnet.report import curve, plot, save_png, save_schedules, views


def preview_recipe(recipe: str, asked: Asked, out: str | None) -> None:
    """Plot the schedules in the terminal, and write schedule.png and a grid of views for each phase."""
    plan = asked.plan(recipe)
    folder = Path(out) if out is not None else Path("preview") / plan.name
    say(plan.title)
    width = min(columns(), 100)
    for title, what, height in (("learning rate", "lr", 8), ("resolution in pixels", "resolution", 4)):
        say()
        say(title)
        stretches = curve(plan.recipe, "lr" if what == "lr" else "resolution")
        say(plot(stretches, width=width, height=height, ascii_only=not characters("⣿│─")))
    say()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"the folder {folder} cannot be made: {error.strerror}; choose another --out"
        ) from None
    for path in _grids(plan, folder):
        say(f"wrote {path}")
    path = folder / "schedule.png"
    save_schedules(plan.recipe, path)
    say(f"wrote {path}")


def _grids(plan: Plan, folder: Path) -> list[Path]:
    """Write a grid of views for each phase, where the data are at hand."""
    data, missing = at_hand(plan)
    if data is None:
        say(f"no images are shown: {missing}")
        return []
    found = []
    for number, phase in enumerate(plan.recipe.phases, start=1):
        grid = views(data.train, phase, classes=len(data.classes), seed=plan.recipe.seed)
        ending = re.sub(r"[^A-Za-z0-9_-]+", "-", phase.name).strip("-")
        found.append(folder / (f"phase-{number}-{ending}.png" if ending else f"phase-{number}.png"))
        save_png(grid, found[-1])
    return found
