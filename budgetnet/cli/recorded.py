"""Recorded: what a run's record asks of a recipe's functions, shown and checked before any of it is used."""

import ast
import inspect
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

from budgetnet.console import say
from budgetnet.plan import Plan

_EMPTY = inspect.Parameter.empty
_KINDS: tuple[tuple[type, ...], ...] = (
    (int, float),
    (str, PurePath),
    (list, tuple),
    (dict,),
    (set, frozenset),
)


def admit(plan: Plan, settings: Sequence[str]) -> None:
    """Say on standard error which settings are those of a run's record, which nobody typed now.

    A record may come from elsewhere: to data() and model() it may only give parameters that they name, and
    values of the kind of their defaults. Raises ValueError.
    """
    for setting in settings:
        room, _, name = path(setting).partition(".")
        if room in ("data", "model"):
            _check(plan.make_data if room == "data" else plan.make_model, room, name, setting)
    if settings:
        say(f"note: as the run's record says: {' '.join(f'--set {text}' for text in settings)}", error=True)


def path(setting: str) -> str:
    """What a setting sets: "data.held_out"."""
    return setting.partition("=")[0].strip()


def _check(make: Callable[..., Any], room: str, name: str, setting: str) -> None:
    parameters = inspect.signature(make).parameters
    parameter = parameters.get(name)
    sets = f"the run's record sets {setting!r:.100}"
    if parameter is None or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        names = ", ".join(parameters) or "nothing"
        raise ValueError(
            f"{sets}, and {room}() takes {names}; if you mean it, write it into the recipe or give --set"
        )
    text = setting.partition("=")[2].strip()
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        value = text
    if parameter.default is not _EMPTY and not _of_a_kind(value, parameter.default):
        default = f"where {room}() has {name}={parameter.default!r:.60}"
        raise ValueError(f"{sets}, {default}; if you mean it, give --set {setting:.100}")


def _of_a_kind(value: object, default: object) -> bool:
    """Whether a value is of the kind of a default: a number for a number, a text for a text or a path."""
    if default is None or value is None:
        return True
    for kinds in _KINDS:
        if isinstance(default, kinds):
            return isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool)
    return True
