"""`budgetnet count`: what a recipe's, a run's or a saved model costs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from torch import nn

from budgetnet.budget import Budget, Ledger, built, ledger, summary
from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import View
from budgetnet.cli.options import idle
from budgetnet.cli.trained import is_trained, load_trained, trained
from budgetnet.console import say
from budgetnet.exporting import SUFFIXES
from budgetnet.modelfile import card
from budgetnet.recipe import Recipe
from budgetnet.trainer import budget_lines


def count_target(target: str, asked: Asked, recipe: str | None, view: View) -> None:
    """Print the ledger of what `target` names. Raises OverBudget where it costs more than `--budget`."""
    model, resolutions = _model(target, asked, recipe)
    resolutions = list(view.resolution) or resolutions
    budget = None if view.budget is None else _budget(view.budget, resolutions)
    if view.layers:
        idle("--summary lists every layer", "--depth")
        _show_layers(target, model, resolutions, view.as_json)
        if budget is not None:
            budget.check(model)
        return
    ledgers = [ledger(model, resolution) for resolution in resolutions] or [ledger(model)]
    if view.as_json:
        click.echo(json.dumps(_described(model, ledgers, view.depth), indent=2))
    else:
        say(ledgers[-1].table(view.depth))
        for smaller in ledgers[:-1]:
            if smaller.macs is not None and smaller.resolution is not None:
                say(f"{smaller.macs:,} MACs at {smaller.resolution[0]}x{smaller.resolution[1]}.")
        for line in budget_lines(model, ledgers[-1], budget):
            say(line)
    if budget is not None:
        budget.check(model)


def _budget(written: str, resolutions: Sequence[int]) -> Budget:
    """The budget of --budget; what it does not say is counted at the last resolution."""
    size = resolutions[-1] if resolutions and "resolution=" not in written else None
    return Budget(params=written, resolution=size)


def _show_layers(target: str, model: nn.Module, resolutions: Sequence[int], as_json: bool) -> None:
    """Print the layers in the order of execution, at the last resolution."""
    if not resolutions:
        raise ValueError(
            f"a summary needs the size of an image, and {target} names none; add --resolution 32"
        )
    layers = summary(model, resolutions[-1])
    click.echo(layers.json() if as_json else str(layers))


def _model(target: str, asked: Asked, recipe: str | None) -> tuple[nn.Module, list[int]]:
    """The model, and the resolutions in pixels that it is used at, in rising order."""
    if Path(target).suffix in SUFFIXES:
        raise ValueError(
            f"{target} is an exported file, which does not tell its layers: count the run that it was made of"
        )
    if not is_trained(target):
        idle("the model is the recipe's that is counted", "--recipe")
        plan = asked.plan(target)
        return plan.model(), _resolutions(plan.recipe)
    loaded = trained(target)
    if recipe is None:
        idle("what is counted is the model in the file, and --recipe names what builds one anew", "--set")
    builder = loaded.plan(asked, recipe) if recipe is not None else None
    model = load_trained(loaded, builder)
    # Loaded for use, nothing requires a gradient: a ledger should say what can learn.
    model.requires_grad_(True)
    known = card(model)
    return model, [known.crop] if known is not None and known.crop else []


def _resolutions(recipe: Recipe) -> list[int]:
    """The first and last resolution of each phase, and those that it is tested at."""
    sizes: set[int] = set()
    for phase in recipe.phases:
        last = phase.last_resolution
        sizes |= {phase.resolution_at(0.0), last, phase.test.at(last)[1]}
    return sorted(sizes)


def _described(model: nn.Module, ledgers: Sequence[Ledger], depth: int | None) -> dict[str, Any]:
    """The ledgers as one JSON object: totals, budget, MACs by resolution, and the rows at the last one."""
    largest = ledgers[-1]
    origin = built(model)
    return {
        "class": type(model).__name__,
        **{name: getattr(largest, name) for name in ("params", "trainable", "buffers", "bytes", "saved")},
        "budget": origin.budget.describe() if origin is not None else None,
        "macs": {each.resolution[0]: each.macs for each in ledgers if each.resolution is not None},
        "peak": None if largest.peak is None else asdict(largest.peak),
        "rows": [asdict(row) for row in (largest.rows if depth is None else largest.groups(depth))],
    }
