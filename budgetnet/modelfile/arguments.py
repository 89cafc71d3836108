"""A builder's arguments as JSON and back: values, and by their public names what budgetnet and torch make."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

from torch import nn

import budgetnet.layers as layers

MOST, DEEPEST, LONGEST, HIGHEST = 10_000, 16, 1000, 2**40
"""What a card's arguments may come to: values in all, levels, characters of a text, and a number's size."""

# Arguments of layers that say how often a module is repeated: the only way in which few words build much.
_REPEATS = frozenset({"blocks", "num_layers", "num_encoder_layers", "num_decoder_layers"})


class NotPortable(Exception):
    """A builder or argument that a file cannot name."""


def public_name(value: object, room: ModuleType) -> str:
    """The name under which budgetnet.models or budgetnet.layers, `room`, makes `value` public."""
    for name in room.__all__:
        if getattr(room, name) is value:
            return str(name)
    raise NotPortable


def encoded(value: object) -> Any:
    """`value` as JSON: functions of budgetnet.layers and classes of torch.nn by name, tuples marked.

    Raises NotPortable for what has no such form, or is more than `decoded` takes back.
    """
    entries = _encoded(value)
    try:
        check_size(entries)
    except ValueError:
        raise NotPortable from None
    return entries


def _encoded(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        if isinstance(value, float) and not math.isfinite(value):
            raise NotPortable
        return value
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_encoded(item) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _encoded(item) for key, item in value.items()}}
    if isinstance(value, type):
        name = str(value.__name__)
        if not issubclass(value, nn.Module) or vars(nn).get(name) is not value:
            raise NotPortable
        return {"torch.nn": name}
    if isinstance(value, partial):
        return {"partial": [_encoded(value.func), _encoded(list(value.args)), _encoded(value.keywords)]}
    if callable(value):
        return {"layers": public_name(value, layers)}
    raise NotPortable


def check_size(value: Any) -> None:
    """Raise ValueError for a JSON value that is larger or deeper than a network's description needs to be."""
    waiting, seen = [(value, 1)], 0
    while waiting:
        part, depth = waiting.pop()
        seen += 1
        if isinstance(part, dict | list):
            if depth > 2 * DEEPEST:  # each level of arguments is two of JSON
                raise ValueError(f"its arguments are nested deeper than {DEEPEST} levels")
            items = [*part, *part.values()] if isinstance(part, dict) else part
            if len(items) + seen > MOST:
                raise ValueError(f"its arguments are more than {MOST:,} values")
            waiting += [(item, depth + 1) for item in items]
        elif isinstance(part, str) and len(part) > LONGEST:
            raise ValueError(f"its arguments have a text of {len(part):,} characters, more than {LONGEST:,}")
        elif isinstance(part, int | float) and not abs(part) <= HIGHEST:
            raise ValueError(f"its arguments have a number above {HIGHEST:,}")


def decoded(value: Any) -> Any:
    """The inverse of `encoded`; names nothing but public layers of budgetnet and modules of torch.nn.

    Raises ValueError for anything else. Nothing is called.
    """
    check_size(value)
    return _decoded(value)


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items() if len(value) == 1 else ((None, None),)
    if kind == "tuple" and isinstance(content, list):
        return tuple(_decoded(item) for item in content)
    if kind == "dict" and isinstance(content, dict):
        return {key: _decoded(item) for key, item in content.items()}
    if kind == "partial" and isinstance(content, list) and len(content) == 3:
        function, args, keywords = (_decoded(item) for item in content)
        if callable(function) and isinstance(args, list) and isinstance(keywords, dict):
            return partial(function, *args, **keywords)
    if kind == "layers" and content in layers.__all__:
        return getattr(layers, content)
    module = vars(nn).get(content) if kind == "torch.nn" and isinstance(content, str) else None
    if isinstance(module, type) and issubclass(module, nn.Module):
        return module
    raise ValueError(f"it should name layers of budgetnet or torch.nn, not {value!r:.80}")


def check_repeats(
    make: Callable[..., object], args: Sequence[Any], keywords: Mapping[str, Any], most: int
) -> None:
    """Raise ValueError where the call, or a partial in its arguments, repeats a module over `most` times."""
    try:
        named = dict(inspect.signature(make).bind_partial(*args, **keywords).arguments)
    except (TypeError, ValueError):  # no such arguments, which the call itself will say, or none to be seen
        named = dict(keywords)
    _check_named(named, most)


def _check_named(named: Mapping[str, Any], most: int) -> None:
    for name, value in named.items():
        times = _whole(value) if name in _REPEATS else 0
        if times > most:
            raise ValueError(
                f"its {name} ask for {times:,} modules in a row, and its file has {most:,} tensors"
            )
        _check_within(value, most)


def _check_within(value: Any, most: int) -> None:
    if isinstance(value, partial):
        check_repeats(value.func, value.args, value.keywords, most)
    elif isinstance(value, Mapping):
        _check_named(value, most)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_within(item, most)


def _whole(value: Any) -> int:
    """The sum of the whole numbers in a value."""
    if isinstance(value, list | tuple):
        return sum(_whole(item) for item in value)
    return abs(value) if isinstance(value, int) else 0
