"""Checks that the values of a recipe share; a refusal names the owner, what was expected and what found."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import is_dataclass


def whole(owner: str, name: str, found: object, least: int = 1) -> None:
    if isinstance(found, bool) or not isinstance(found, int) or found < least:
        raise ValueError(f"{owner}'s {name} should be a whole number of {least} or more, not {found!r}")


def above_zero(owner: str, name: str, found: object) -> None:
    number = isinstance(found, int | float) and not isinstance(found, bool)
    if not number or not math.isfinite(found) or found <= 0:  # type: ignore[arg-type, operator]
        raise ValueError(f"{owner}'s {name} should be a number above 0, not {found!r}")


def made(owner: str, name: str, found: object) -> None:
    """Refuse an optimizer or loss that was not called yet, or cannot be."""
    if isinstance(found, type) and is_dataclass(found):
        raise ValueError(f"{owner}'s {name} is the class {found.__name__}; call it: {found.__name__}(...)")
    if not callable(found):
        raise ValueError(f"{owner}'s {name} should be callable, such as SGD() or a loss, not {found!r}")


def one_of(owner: str, name: str, found: object, choices: Sequence[str]) -> None:
    if found not in choices:
        near = difflib.get_close_matches(str(found), choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{owner}'s {name} should be one of {', '.join(choices)}, not {found!r}{hint}")
