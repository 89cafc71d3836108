"""Data that are at hand: what a look at a recipe may use, since a look fetches nothing."""

from budgetnet.cli.options import environment
from budgetnet.data import Data, Unavailable
from budgetnet.plan import Plan


def at_hand(plan: Plan) -> tuple[Data | None, str]:
    """The plan's data, and "" ; or None, and why they are not at hand. Nothing is downloaded."""
    with environment("BUDGETNET_OFFLINE", "1"):
        try:
            return plan.data(), ""
        except Unavailable as error:
            return None, str(error)
