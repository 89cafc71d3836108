"""`budgetnet report`: the runs that were named, with the data of their recipe where they are at hand."""

from pathlib import Path

from torch import nn

from budgetnet.cli.asked import Asked
from budgetnet.cli.options import idle
from budgetnet.cli.overview import at_hand
from budgetnet.cli.trained import Trained, find_run, load_trained, shipped_recipe
from budgetnet.console import say
from budgetnet.data import Data
from budgetnet.plan import Plan
from budgetnet.reporting import report
from budgetnet.run import MODEL, Run
from budgetnet.trainer import Trainer


def report_runs(
    names: tuple[str, ...], recipe: str | None, asked: Asked, *, out: str | None, device: str | None
) -> None:
    """Write the report of the runs that are named, and say where it lies."""
    folders = [find_run(name) for name in names]
    if len(folders) > 1:
        if recipe is not None:
            raise ValueError("--recipe is for the report of one run, and several are named")
        idle("a report of several runs is of their records", "--data", "--set", "--device")
        say(str(report(folders, out=out)))
        return
    run = Run.read(folders[0])
    loaded = Trained(folders[0] / MODEL, run)
    recipe = recipe or shipped_recipe(loaded, names[0])
    plan, data, model = None, None, None
    if recipe is None:
        idle("they are for the images of a recipe, and none is named (--recipe)", "--data", "--set")
        missing = (
            "no recipe is executed that is not named; name it: "
            f"budgetnet report {names[0]} --recipe {loaded.recipe_file or 'RECIPE'}"
        )
    else:
        plan = loaded.plan(asked, recipe)
        data, missing = at_hand(plan)
        model = _model(loaded, plan, data)
    trainer = Trainer(device, out=None, show=False)
    done = report(
        run,
        data=data,
        recipe=plan.recipe if plan is not None else None,
        model=model,
        out=out,
        trainer=trainer,
        missing=missing,
    )
    if data is None:
        say(f"note: {missing}")
    say(str(done))


def _model(loaded: Trained, plan: Plan, data: Data | None) -> nn.Module | None:
    """The run's model, also one that only its recipe can build; None where it has saved none."""
    return load_trained(loaded, plan) if Path(loaded.file).exists() and data is not None else None
