"""A recipe's values by their paths: changed one at a time, and their defaults."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from budgetnet.identity import described_value


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


def defaults(value: object) -> dict[str, dict[str, Any]]:
    """The options that have defaults, described, of each class of which there is a value in `value`."""
    found: dict[str, dict[str, Any]] = {}
    if is_dataclass(value) and not isinstance(value, type):
        own = {}
        for field in fields(value):
            found |= defaults(getattr(value, field.name))
            if field.default is not MISSING:
                own[field.name] = described_value(field.default)
            elif field.default_factory is not MISSING:
                own[field.name] = described_value(field.default_factory())
        found[type(value).__name__] = own
    elif isinstance(value, Mapping):
        for item in value.values():
            found |= defaults(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            found |= defaults(item)
    return found
