"""A recipe's values by their paths: changed one at a time, and described as plain JSON."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any


def with_value(owner: Any, path: list[str], found: object, where: str) -> Any:
    """`owner` with the value at `path` replaced by `found`; `where` names the owner in refusals."""
    name, rest = path[0], path[1:]
    if isinstance(owner, tuple):
        if not name.isdigit() or int(name) >= len(owner):
            raise ValueError(f"{where} has the numbers 0 to {len(owner) - 1}, not {name!r}")
        at = int(name)
        item = with_value(owner[at], rest, found, f"{where}.{at}") if rest else found
        return (*owner[:at], item, *owner[at + 1 :])
    if not is_dataclass(owner) or isinstance(owner, type):
        raise ValueError(
            f"{where} is {owner!r}, which has no {name!r}; change it as a whole in the recipe's file"
        )
    names = [field.name for field in fields(owner)]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
        raise ValueError(f"{where} has no {name!r}; {hint}")
    new = with_value(getattr(owner, name), rest, found, f"{where}.{name}") if rest else found
    return replace(owner, **{name: new})


def described_value(value: object) -> Any:
    """`value` as plain JSON: dataclasses by class and fields, callables by name, the rest by its repr."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if is_dataclass(value) and not isinstance(value, type):
        entries = {field.name: described_value(getattr(value, field.name)) for field in fields(value)}
        return {"class": type(value).__name__, **entries}
    if isinstance(value, Mapping):
        return {str(key): described_value(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [described_value(item) for item in value]
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)
