"""The refusals of a model: that it costs too much, and in which module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from budgetnet.budget.amounts import shown
from budgetnet.budget.ledger import Ledger, Row, label
from budgetnet.budget.meta import BuildingStopped

AT_RESOLUTION = {"macs", "ram", "latency"}
"""The limits of what an image of some resolution costs."""
_LISTED = 3  # largest parts that a message names


class OverBudget(ValueError):
    """A model costs more than its budget allows; `ledger` is what it would have cost, module by module."""

    def __init__(self, message: str, ledger: Ledger) -> None:
        super().__init__(message)
        self.ledger = ledger

    def __reduce__(self) -> tuple[type[OverBudget], tuple[str, Ledger]]:
        return type(self), (str(self), self.ledger)


def excesses(ledger: Ledger, limits: Mapping[str, int]) -> dict[str, int]:
    """How much a ledger is over each of `limits`: negative within one, absent for one that is not counted."""
    costs = {limit: ledger.cost(limit) for limit in limits}
    return {limit: cost - limits[limit] for limit, cost in costs.items() if cost is not None}


def over_budget(ledger: Ledger, limits: Mapping[str, int]) -> OverBudget | None:
    """The refusal of a ledger that is over at least one of `limits`, None for one within all of them."""
    over = {limit: excess for limit, excess in excesses(ledger, limits).items() if excess > 0}
    if not over:
        return None
    first = next(iter(over))
    numbers = " and ".join(numbers_over(ledger, limit, limits[limit]) for limit in over)
    return OverBudget(
        f"{numbers}; {_where(ledger, first, limits[first])}, let budget.spend(make, knobs) find the largest "
        f"that fits, or allow {allowance(ledger, limits)}",
        ledger,
    )


def numbers_over(ledger: Ledger, limit: str, most: int) -> str:
    """The clause "2,236,682 parameters is 236,682 over the budget of 2,000,000"."""
    cost = ledger.cost(limit) or 0
    over, named = shown(limit, cost - most), unit(limit, ledger)
    return f"{shown(limit, cost)} {named} is {over} over the budget of {shown(limit, most)}"


def _where(ledger: Ledger, limit: str, most: int) -> str:
    """Where the cost comes from, and what makes it smaller."""
    if limit == "latency":
        slow = ", ".join(f"{label(row.name)} {row.macs or 0:,}" for row in _largest(ledger, "macs"))
        return f"most MACs: {slow}; make it narrower or shallower, lower the resolution"
    if limit == "ram" and ledger.peak is not None:
        held = ", ".join(f"{label(name)} {size:,}" for name, size in ledger.peak.held)
        return f"held then: {held}; shrink the map before it, make it narrower there, lower the resolution"
    largest = ", ".join(f"{label(row.name)} {getattr(row, limit):,}" for row in _largest(ledger, limit))
    crossed = label(_crossed(ledger, limit, most))
    return f"the line is crossed in {crossed}; largest: {largest}; make it narrower or shallower"


def allowance(ledger: Ledger, limits: Mapping[str, int]) -> str:
    """The smallest budget with the same limits that would let a ledger pass, as an expression."""
    raised = {limit: max(most, ledger.cost(limit) or 0) for limit, most in limits.items()}
    options = [
        f"{limit}={most:_}" if limit != "latency" else f"latency='{most / 1000:.8g}ms'"
        for limit, most in raised.items()
    ]
    if AT_RESOLUTION & set(limits) and ledger.resolution is not None:
        options.append(f"resolution={ledger.resolution[0]}")
    if ledger.stored is not None:
        options.append(f"stored={ledger.stored!r}")
    return f"Budget({', '.join(options)})"


def unit(limit: str, ledger: Ledger) -> str:
    """What a limit is counted in: parameters, MACs at 96x96, bytes as saved, and RAM with where it peaks."""
    at = f" at {ledger.resolution[0]}x{ledger.resolution[1]}" if ledger.resolution is not None else ""
    peak = f" (in {label(ledger.peak.module)})" if ledger.peak is not None else ""
    ram = f"bytes of RAM{at}{peak}"
    stored = f"bytes as {ledger.stored or 'saved'}"
    units = {"params": "parameters", "macs": f"MACs{at}", "bytes": stored, "ram": ram}
    return units.get(limit, f"for an image{at}, on one thread of this machine's CPU")


def over_while_building(stop: BuildingStopped, limits: Mapping[str, int]) -> OverBudget:
    """The refusal of a model whose building was stopped far over budget; its ledger is what there was."""
    rows = tuple(
        Row(name=f"unfinished {kind}", kind=kind, params=params, buffers=0, trainable=params, bytes=size)
        for kind, (params, size) in stop.kinds.items()
    )
    unfinished = Ledger(rows)
    most = limits[stop.limit]
    largest = max(rows, key=lambda row: row.bytes)
    return OverBudget(
        f"more than {stop.reached:,} {unit(stop.limit, unfinished)} is over {stop.reached // most:,} times "
        f"the budget of {most:,}; building stopped there, after {stop.tensors:,} parameter tensors, most of "
        f"them in modules of kind {largest.kind}; make it narrower or shallower, or count all of it with "
        "budgetnet.count(make, ...)",
        unfinished,
    )


def _crossed(ledger: Ledger, limit: str, most: int) -> str:
    total = ledger.head if limit == "bytes" else 0
    for row in ledger.rows:
        total += getattr(row, limit) or 0
        if total > most:
            return row.name
    raise AssertionError("a ledger over its limit crosses it in one of its rows")


def _largest(ledger: Ledger, limit: str) -> Sequence[Row]:
    deepest = max(row.name.count(".") for row in ledger.rows) + 1
    for depth in range(1, deepest + 1):
        groups = [row for row in ledger.groups(depth) if getattr(row, limit)]
        if len(groups) > 1 or depth == deepest:  # a model wrapped in another says more one level down
            break
    return sorted(groups, key=lambda row: -getattr(row, limit))[:_LISTED]
