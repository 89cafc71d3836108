"""Overview: what a plan is going to do and to cost, checked and printed before the first step."""

from torch import nn

from budgetnet.budget import DoesNotFit, check_fit, ledger
from budgetnet.cli.options import environment
from budgetnet.console import say, table
from budgetnet.data import Data, Unavailable
from budgetnet.plan import Plan
from budgetnet.recipe import Recipe
from budgetnet.trainer import budget_lines, part_rows, phase_rows


def at_hand(plan: Plan) -> tuple[Data | None, str]:
    """The plan's data, and ""; or None, and why they are not at hand. Nothing is downloaded."""
    with environment("BUDGETNET_OFFLINE", "1"):
        try:
            return plan.data(), ""
        except Unavailable as error:
            return None, str(error)


def checked_model(plan: Plan) -> nn.Module:
    """The plan's model; one that some phase's images do not fit is refused. Raises DoesNotFit."""
    model = plan.model()
    for number, phase in enumerate(plan.recipe.phases, start=1):
        for resolution in phase.resolutions:
            try:
                check_fit(model, resolution)
            except DoesNotFit as error:
                raise DoesNotFit(f"phase {number} does not fit its model: {error}") from None
    return model


def show_model(plan: Plan, model: nn.Module) -> None:
    """Print what the outermost parts of a plan's model cost at its last resolution, and its budget leaves."""
    say(plan.title)
    if plan.fitted:
        say(f"as the data ask: {' '.join(plan.fitted)}")
    resolution = plan.recipe.phases[-1].last_resolution
    costs = ledger(model, resolution)
    columns, *rows = part_rows(costs, resolution)
    table(columns, rows)
    for line in budget_lines(model, costs):
        say(line)


def show_phases(recipe: Recipe, data: Data | None) -> None:
    """Print the phases as a table; with `data` also how many steps."""
    columns, *rows = phase_rows(recipe, data)
    table(columns, rows)
