"""A recipe's values by their paths: changed one at a time, and described as plain JSON."""

import difflib
import functools
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as Several
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


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
    """`value` as plain JSON: dataclasses by class and fields, callables by name, the rest by its repr.

    It is the same in every process: no addresses, and sets in order.
    """
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if is_dataclass(value) and not isinstance(value, type):
        entries = {field.name: described_value(getattr(value, field.name)) for field in fields(value)}
        return {"class": type(value).__name__, **entries}
    if isinstance(value, Mapping):
        return {str(key): described_value(item) for key, item in value.items()}
    if isinstance(value, Several):
        return sorted((described_value(item) for item in value), key=repr)
    if isinstance(value, Sequence):
        return [described_value(item) for item in value]
    if isinstance(value, functools.partial):
        given = {"arguments": described_value(value.args), **described_value(value.keywords)}
        return {"class": f"partial {described_value(value.func)}", **given}
    if isinstance(value, nn.Module):
        return _held(repr(value), value.state_dict())
    if isinstance(value, Tensor):
        return _held(f"tensor {list(value.shape)}", {"": value})
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return without_addresses(repr(value))


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


def without_addresses(text: str) -> str:
    """A text without the places in memory that Python shows of functions and objects."""
    return _ADDRESS.sub("", text)


def _held(text: str, tensors: Mapping[str, Tensor]) -> str:
    """A text and, where there are tensors, what tells their content from another's."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().data)
    short = without_addresses(text)
    return f"{short} {digest.hexdigest()[:12]}" if tensors else short
