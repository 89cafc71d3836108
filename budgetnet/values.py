"""Values that users give, checked in one grammar of refusal: "X should be A, not B"."""

import difflib
import functools
import inspect
import math
from collections.abc import Sequence
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def whole(name: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Refuse anything but a whole number within these bounds. Raises ValueError."""
    good = isinstance(value, int) and not isinstance(value, bool) and least <= value
    if not good or (isinstance(value, int) and most is not None and value > most):
        bounds = f"of {least:,} or more" if most is None else f"from {least:,} to {most:,}"
        raise ValueError(f"{name} should be a whole number {bounds}, not {value!r:.100}")


def number(
    name: str,
    value: object,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """Refuse anything but a finite number within these bounds. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        low = (least is None or value >= least) and (above is None or value > above)
        if low and (most is None or value <= most) and (below is None or value < below):
            return
    raise ValueError(f"{name} should be a number{_bounds(least, above, most, below)}, not {value!r:.100}")


def _bounds(least: float | None, above: float | None, most: float | None, below: float | None) -> str:
    low = f" above {above:g}" if above is not None else f" from {least:g}" if least is not None else ""
    if most is not None:
        return f"{low} to {most:g}"
    if below is not None:
        return f"{low} {'to' if least is not None else 'and'} below {below:g}"
    return low if least is None else f" of {least:g} or more"


def above_zero(name: str, value: object) -> None:
    """Refuse anything but a finite number above 0. Raises ValueError."""
    number(name, value, above=0)


def share(name: str, value: object) -> None:
    """Refuse anything but a number from 0 to below 1. Raises ValueError."""
    number(name, value, least=0, below=1)


def true_or_false(name: str, value: object) -> None:
    """Refuse anything but True or False. Raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} should be True or False, not {value!r:.100}")


def span(name: str, value: object, least: float, most: float | None) -> tuple[float, float]:
    """`value` as a tuple, when it is a pair (from, to) of such numbers in rising order. Raises ValueError."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"{name} should be a pair (from, to) of numbers, not {value!r}")
    for end in value:
        number(f"each end of {name}", end, least=least, most=most)
    if value[0] > value[1]:
        raise ValueError(f"{name} should be a pair (from, to) in rising order, not {value!r}: swap its ends")
    return value[0], value[1]


def colour(name: str, value: object) -> float | tuple[float, ...]:
    """`value`: a brightness in [0, 1], or a tuple with one for each of 1 or 3 channels. Raises ValueError."""
    if not isinstance(value, tuple | list):
        number(name, value, least=0, most=1)
        return value  # type: ignore[return-value]
    if len(value) not in (1, 3):
        raise ValueError(f"{name} should have 1 or 3 channels, not {len(value)} in {value!r}")
    for part in value:
        number(f"each channel of {name}", part, least=0, most=1)
    return tuple(value)


def described(values: Any) -> str:
    """What a tensor or an array is, as a refusal says it: "uint8 (5, 3)"."""
    return f"{str(values.dtype).removeprefix('torch.')} {tuple(values.shape)}"


def finite(value: object) -> object:
    """`value` as JSON has it: None for a NaN or an infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def one_of(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse anything but one of the choices, and name the nearest one. Raises ValueError."""
    if value not in choices:
        raise ValueError(
            f"{name} should be one of {', '.join(choices)}, not {value!r:.100}{nearest(value, choices)}"
        )


def nearest(value: object, choices: Sequence[str]) -> str:
    """How a refusal ends that knows what was meant: "; did you mean 'widths'?"; "" where nothing is near."""
    near = difflib.get_close_matches(str(value), choices, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def lacking(module: str, names: Sequence[str], name: str) -> AttributeError:
    """What a module's `__getattr__` raises: the nearest of its public names to one that it does not have."""
    return AttributeError(f"{module} has no public name {name!r}{nearest(name, names)}; see dir({module})")


def hinting(kind: type[Kind]) -> type[Kind]:
    """A class that names the nearest argument where it is given one that it does not have."""
    plain = kind.__init__
    parameters = inspect.signature(plain).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return kind
    names = [each.name for each in parameters][1:]

    @functools.wraps(plain)
    def init(self: Kind, *args: Any, **options: Any) -> None:
        for name in options:
            if name not in names:
                raise TypeError(f"{kind.__name__} has no argument {name!r}{nearest(name, names)}")
        plain(self, *args, **options)

    type.__setattr__(kind, "__init__", init)
    return kind
