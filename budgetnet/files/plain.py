"""Plain: values that a training keeps, however nested, <-> JSON and the tensors in them by name."""

import math
import random
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

LARGEST = 100_000
"""Values in one container at most that are looked at one by one."""
_SCALARS = (type(None), bool, int, float, str)


class NotPlain(Exception):
    """A value that has no such form: of which kind."""


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON; the tensors in it go into `tensors`, by names that begin with `name`.

    Takes numbers, text, None, tensors, arrays, random generators, and lists, tuples, dicts, sets and deques
    of these. Raises NotPlain for anything else.
    """
    if type(value) in _SCALARS:
        return value if not isinstance(value, float) or math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor):
        tensors[name] = value.detach()
        return {"tensor": name}
    if isinstance(value, np.ndarray | np.generic):
        return _array(value, name, tensors)
    if isinstance(value, torch.Generator):
        tensors[name] = value.get_state()
        return {"generator": name}
    if isinstance(value, random.Random):
        return {"random": pack(value.getstate(), name, tensors)}
    if isinstance(value, np.random.Generator):
        return {"numpy": pack(dict(value.bit_generator.state), name, tensors)}
    if isinstance(value, np.random.RandomState):
        return {"numpy": pack(value.get_state(legacy=False), name, tensors)}
    if type(value) in (list, tuple, set, frozenset, deque) and len(value) <= LARGEST:
        items = [pack(item, f"{name}/{at}", tensors) for at, item in enumerate(value)]
        ends = {"ends": value.maxlen} if isinstance(value, deque) else {}
        return items if isinstance(value, list) else {type(value).__name__: items, **ends}
    if isinstance(value, dict) and len(value) <= LARGEST:
        keys = [pack(key, f"{name}/{at}/key", tensors) for at, key in enumerate(value)]
        held = [pack(item, f"{name}/{at}", tensors) for at, item in enumerate(value.values())]
        return {"dict": [list(pair) for pair in zip(keys, held, strict=True)]}
    raise NotPlain(type(value).__name__)


def _array(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    try:
        tensors[name] = torch.from_numpy(np.array(value))
    except TypeError:
        raise NotPlain(f"array of {value.dtype}") from None
    return {"array" if isinstance(value, np.ndarray) else "scalar": name}


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `pack`; of generators it gives the state. Raises ValueError, KeyError or TypeError."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    kind: str = next(iter(value), "")
    held: Any = value.get(kind)
    if kind in ("tensor", "generator"):
        return tensors[held]
    if kind in ("array", "scalar"):
        array = tensors[held].numpy()
        return array if kind == "array" else array[()]
    if kind == "float":
        return float(held)
    if kind in ("random", "numpy"):
        return unpack(held, tensors)
    if kind == "dict":
        return {unpack(k, tensors): unpack(v, tensors) for k, v in held}
    items = [unpack(item, tensors) for item in held]
    if kind == "deque":
        return deque(items, maxlen=value["ends"])
    made = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
    return made(items)


def put(target: Any, value: Any) -> bool:
    """Set a generator or tensor that is there to a state that was saved; False where it is to be replaced."""
    if isinstance(target, torch.Generator):
        target.set_state(value)
    elif isinstance(target, random.Random):
        target.setstate(value)
    elif isinstance(target, np.random.Generator):
        target.bit_generator.state = _within(value)
    elif isinstance(target, np.random.RandomState):
        target.set_state(_within(value))
    elif isinstance(target, Tensor) and isinstance(value, Tensor) and target.shape == value.shape:
        # In place, since other names may lead to it.
        with torch.no_grad():
            target.copy_(value)
    else:
        return False
    return True


def _within(state: Any) -> Any:
    """A state of NumPy's, which looks at no position in it. Raises ValueError for one beyond its end."""
    if not 0 <= state["state"].get("pos", 0) <= 624 or not 0 <= state.get("buffer_pos", 0) <= 4:
        raise ValueError("a generator's position lies beyond its end")
    return state


def same(one: Any, other: Any, of_one: Mapping[str, Tensor], of_other: Mapping[str, Tensor]) -> bool:
    """Whether two packed values are the same, with the tensors in them."""
    if one != other or repr(one) != repr(other) or of_one.keys() != of_other.keys():
        return False
    return all(_alike(tensor, of_other[name]) for name, tensor in of_one.items())


def _alike(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.dtype == other.dtype and torch.equal(one, other))
