"""Difference: where nested JSON values part, as readable paths."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_WIDEST = 60


class _Missing:
    """Stands where a value is not there at all."""

    def __repr__(self) -> str:
        return "-"

    def __reduce__(self) -> str:
        # The one that there is, in another process too.
        return "MISSING"


MISSING = _Missing()


@dataclass(frozen=True)
class Difference:
    """A `path` such as "recipe.phases[0].lr.peak", and the value that each of those compared has there."""

    path: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.path}  {' | '.join(self.texts)}"

    @property
    def texts(self) -> tuple[str, ...]:
        """The values in few letters; "-" for one that is not there."""
        return tuple(short(value) for value in self.values)

    def json(self) -> dict[str, Any]:
        """Path and whole values as plain JSON; null for one that is not there."""
        return {"path": self.path, "values": [None if value is MISSING else value for value in self.values]}


def differences(values: Sequence[Any], path: str = "") -> list[Difference]:
    """The smallest parts in which nested JSON values differ, in the order of their first appearance."""
    if all(_same(value, values[0]) for value in values[1:]):
        return []
    there = [value for value in values if value is not MISSING]
    if all(isinstance(value, Mapping) for value in there) and len(there) == len(values):
        if len({value.get("class") for value in there}) == 1:
            keys = dict.fromkeys(key for value in there for key in value)
            return _below(values, [(key, f"{path}.{key}" if path else str(key)) for key in keys])
    elif all(isinstance(value, list) for value in there) and len(there) == len(values):
        longest = max(len(value) for value in there)
        even = all(len(value) == longest for value in there)
        if even or any(len(short(value)) >= _WIDEST for value in there):
            return _below(values, [(at, f"{path}[{at}]") for at in range(longest)])
    return [Difference(path, tuple(values))]


def _below(values: Sequence[Any], paths: Sequence[tuple[Any, str]]) -> list[Difference]:
    below = []
    for at, path in paths:
        below += differences([_item(value, at) for value in values], path)
    return below


def _item(value: Any, at: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get(at, MISSING)
    return value[at] if at < len(value) else MISSING


def _same(one: Any, other: Any) -> bool:
    """Equal, and true not the same as 1, at whatever depth."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or (bool(one == other) and isinstance(one, bool) == isinstance(other, bool))


def short(value: Any) -> str:
    """A JSON value as a person would write it, in 60 letters at most: "Cosine(peak=0.1, final=0.0)"."""
    text = _written(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 4]} ..."


def _written(value: Any) -> str:
    if isinstance(value, str):
        return f"{value[:12]}..." if re.fullmatch("[0-9a-f]{64}", value) else " ".join(value.split())
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        entries = [(key, _written(item)) for key, item in value.items() if key != "class"]
        if "class" in value:
            return f"{value['class']}({', '.join(f'{key}={text}' for key, text in entries)})"
        return "{" + ", ".join(f"{key}: {text}" for key, text in entries) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(item) for item in value)}]"
    return str(value)
