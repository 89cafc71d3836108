"""Costs: what a plan's network costs, as a search sets its accuracy against, and how far one is over."""

from collections.abc import Sequence

from budgetnet.budget import OverBudget, latency, ledger
from budgetnet.plan import Plan

COSTS = ("params", "macs", "bytes", "latency")


def costs_of(plan: Plan, names: Sequence[str]) -> dict[str, float]:
    """The costs of a plan's model: seconds of latency, at the resolution of its last phase. ValueError."""
    model = plan.model()
    size = plan.recipe.phases[-1].last_resolution
    counts = ledger(model, size if "macs" in names else None)
    return {
        name: latency(model, size) if name == "latency" else float(counts.cost(name) or 0) for name in names
    }


def excess(error: ValueError) -> float:
    """How far a refused suggestion is over the budget, in parameters by millions; 1 where nobody knows."""
    return error.ledger.params / 10**6 if isinstance(error, OverBudget) else 1.0
