"""The sentences in which a step refuses its parameters."""

import math
from typing import Any

import budgetnet.values as values

Span = tuple[float, float]


def number(name: str, value: Any, low: float, high: float) -> float:
    """`value`, when it is a number within [low, high]. Raises ValueError."""
    values.number(name, value, least=low, most=None if math.isinf(high) else high)
    return value  # type: ignore[no-any-return]


def span(name: str, value: Any, low: float, high: float) -> Span:
    """`value` as a tuple: a pair of numbers (from, to), rising, within [low, high]. Raises ValueError."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name} should be a pair (from, to) of numbers, not {value!r}")
    first, last = (number(f"each end of {name}", end, low, high) for end in value)
    if first > last:
        raise ValueError(f"{name} should be a pair (from, to) in rising order, not {value!r}: swap its ends")
    return first, last


def number_or_span(name: str, value: Any, single: Span, pair: Span) -> float | Span:
    """`value`, when it is a number within `single` or a pair (from, to) within `pair`. Raises ValueError."""
    if isinstance(value, (tuple, list)):
        return span(name, value, *pair)
    return number(name, value, *single)


def colour(name: str, value: Any) -> float | tuple[float, ...]:
    """`value`: a brightness in [0, 1], or a tuple with one for each of 1 or 3 channels. Raises ValueError."""
    if not isinstance(value, (tuple, list)):
        return number(name, value, 0.0, 1.0)
    if len(value) not in (1, 3):
        raise ValueError(f"{name} should have 1 or 3 channels, not {len(value)} in {value!r}")
    return tuple(number(f"each channel of {name}", part, 0.0, 1.0) for part in value)


def channels_match(step: object, value: object, channels: int) -> None:
    """Refuse a colour of another number of channels than the images that meet it. Raises ValueError."""
    if isinstance(value, tuple) and len(value) not in (1, channels):
        raise ValueError(
            f"{step!r} fills with {len(value)} channels but the images have {channels}: give a single number"
        )
