"""Planned: how long a training will take, said before it begins, and a recipe scaled to end within a time."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from budgetnet.data import Data
from budgetnet.engine import Engine, Forecast, Speed, choose, forecast, lasting
from budgetnet.recipe import Recipe
from budgetnet.text import duration, seconds
from budgetnet.trainer.chain import unfinished

LONG = 3600.0
"""Of a training that takes so many seconds it is said before it begins."""
LOOK, SHARE = 4.0, 0.02
"""Seconds that are measured for, and the part of a time that is to be kept."""

MEASURING = "measuring how long the steps take on this machine"


@dataclass(frozen=True)
class Within:
    """A scale that lets a training end within a time, and what it was chosen by, a `record` and `lines`."""

    scale: float
    record: dict[str, Any]
    lines: tuple[str, ...]


def plan_within(
    model: nn.Module,
    data: Data,
    scaled: Callable[[float], Recipe],
    within: float | str | None,
    *,
    begun: float,
    engine: Engine,
    speed: Speed,
    runs: int = 1,
) -> Within:
    """Measure the training, and choose the scale at which it, and so many `runs`, end `within` a time.

    The time counts from `begun`, by the monotonic clock. Raises ValueError where no scale does.
    """
    asked = seconds(within, "within") or 0.0
    whole = short = scaled(1.0)
    choice, chosen = None, choose(speed, engine.device, model, whole, data.train)
    # A training that is shortened may be one that compiling does not pay for any more.
    while choice is None or chosen.chosen != choice.chosen:
        choice = chosen
        measured = forecast(model, data, whole, engine, choice, min(10 * LOOK, SHARE * asked))
        left = (asked - (time.monotonic() - begun)) / runs
        scale = measured.scale(scaled, left)
        short = scaled(scale)
        chosen = choose(speed, engine.device, model, short, data.train)
    times = {"whole": round(measured.seconds(whole), 3), "expected": round(measured.seconds(short), 3)}
    record = {"seconds": asked, "left": round(left, 3), **times, "measured": str(measured)}
    each = f" for each of {runs} runs" if runs > 1 else ""
    told = _told(f"{duration(left)} of {duration(asked)} are left{each}", scale, times, _phases(whole, short))
    return Within(scale, record, (f"measured here: {measured}", told))


def _told(left: str, scale: float, times: dict[str, float], phases: str) -> str:
    end = f"{left}, and the recipe takes about"
    if scale == 1:
        return f"{end} {duration(times['expected'])}: it stays as it is"
    short = f"--scale {scale:g} takes about {duration(times['expected'])}: {phases}"
    return f"{end} {duration(times['whole'])}; {short}"


def _phases(whole: Recipe, short: Recipe) -> str:
    pairs = enumerate(zip(whole.phases, short.phases), start=1)
    return ", ".join(
        f"{after.name or f'phase {number}'} {after.epochs:,} of {before.epochs:,} epochs"
        for number, (before, after) in pairs
    )


def planned_before(folder: str | Path, within: float | str | None) -> float:
    """The scale that an unfinished run was begun with, to end within this time.

    Raises ValueError where it was begun for another, or none: what it does is fixed.
    """
    held = unfinished(folder).record
    told = held["within"].get("seconds") if isinstance(held.get("within"), dict) else None
    if told != seconds(within, "within") or not isinstance(held.get("scale"), int | float):
        was = (
            f"within {duration(told)}"
            if isinstance(told, int | float)
            else "without a time (within=, --within)"
        )
        raise ValueError(
            f"the run in {folder} was begun to end {was}, and its schedule is fixed; leave --within "
            "(within=) out to go on with it, or begin a new run"
        )
    return float(held["scale"])


def behind(record: Mapping[str, Any]) -> list[str]:
    """A sentence on where a run is that was scaled to end within a time."""
    held = record.get("within")
    asked, foretold = (held.get(name) for name in ("seconds", "expected")) if held else (None, None)
    if not isinstance(asked, int | float) or not isinstance(foretold, int | float):
        return []
    spent = sum(float(session.get("seconds", 0.0)) for session in record.get("sessions", []))
    return [
        f"scaled to end within {duration(asked)}: {duration(spent)} of training are behind it, and "
        f"{duration(foretold)} in all were foretold, on the machine as it was then"
    ]


def long(model: nn.Module, data: Data, recipe: Recipe, engine: Engine, speed: Speed) -> list[str]:
    """A sentence that says how long the training takes, where that is over an hour."""
    if not lasting(model, data, recipe, engine.device, LONG):
        return []
    try:
        measured = forecast(
            model, data, recipe, engine, choose(speed, engine.device, model, recipe, data.train), LOOK
        )
    except (ValueError, RuntimeError):
        return []
    spent = measured.seconds(recipe)
    return [takes(measured, recipe)] if spent > LONG else []


def takes(measured: Forecast, recipe: Recipe, done: Sequence[int] = ()) -> str:
    """How long a recipe takes, or what is left where so many epochs of its phases are `done`, in words."""
    stops = any(phase.stop is not None for phase in recipe.phases)
    about = f"{'at most ' if stops else ''}about {duration(measured.seconds(recipe, done))}"
    what = "what is left of the training" if done else "the training"
    return f"{what} takes {about} on this machine, as it is now ({measured})"
