"""Hidden: modules and tensors in plain attributes, which torch neither counts, trains, saves nor moves."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Set as Several
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_DEEP, _MANY = 6, 20_000
"""How deep a plain attribute is searched, and how many values."""

_TORCHS = frozenset(vars(nn.Module())) | {"built"}
"""Attributes that torch keeps itself, and the budget's own."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, type)
_CLOSED = ("torch", "numpy", "builtins", "collections", "functools", "threading", "weakref", "logging")
"""Whose objects are not looked into."""


@dataclass(frozen=True)
class Hidden:
    """A module or tensor where torch does not find it: `path` in Python's words, such as `blocks[0]`."""

    path: str
    what: nn.Module | Tensor
    holder: str

    @property
    def tensors(self) -> list[Tensor]:
        """What would have to be counted, trained, saved or moved."""
        if isinstance(self.what, Tensor):
            return [self.what]
        return [*self.what.parameters(), *self.what.buffers()]


def held(value: object, path: str) -> Iterator[Hidden]:
    """The modules and tensors in a value: in containers, partials, closures and attributes of its own."""
    seen: set[int] = set()
    waiting: deque[tuple[str, object, str, int]] = deque([(path, value, "value", 0)])
    while waiting and len(seen) < _MANY:
        path, value, holder, depth = waiting.popleft()
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module | Tensor):
            yield Hidden(path, value, holder)
        elif depth < _DEEP:
            waiting.extend((*inside, depth + 1) for inside in _inside(path, value))


def hidden(modules: Mapping[str, nn.Module]) -> Iterator[Hidden]:
    """What the `modules` of a model, by their names, hold beside what is registered in them."""
    own, memory = set(map(id, modules.values())), set()
    for module in modules.values():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                own.add(id(tensor))
                memory.add(_memory(tensor))
    for name, module in modules.items():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        prefix = f"{name}." if name else ""
        for key, value in (*vars(module).items(), *_of_classes(type(module))):
            if isinstance(value, _PLAIN) or key in _TORCHS:
                continue
            for inner in held(value, prefix + key):
                foreign = [each for each in inner.tensors if id(each) not in own]
                if any(_memory(each) not in memory for each in foreign):
                    yield inner


def refuse_hidden(modules: Mapping[str, nn.Module]) -> None:
    """Refuse, with a ValueError, modules with weights and tensors that learn in plain attributes."""
    weighing = [each for each in hidden(modules) if _weighs(each)]
    if not weighing:
        return
    first, model = weighing[0], type(next(iter(modules.values()))).__name__
    count = sum(tensor.numel() for each in weighing for tensor in each.tensors if not is_lazy(tensor))
    kind = type(first.what).__name__ if isinstance(first.what, nn.Module) else "tensor that learns"
    more = f" and {len(weighing) - 1} more" if len(weighing) > 1 else ""
    raise ValueError(
        f"{model} should hold its weights where torch finds them, and {first.path} ({kind}){more}, of "
        f"{count:,} numbers in all, would be neither counted, trained nor saved: {_way_out(first)}"
    )


def _weighs(tensor: Hidden) -> bool:
    what = tensor.what
    return isinstance(what, nn.Module | nn.Parameter) or (what.requires_grad and what.is_leaf)


def _way_out(tensor: Hidden) -> str:
    if isinstance(tensor.what, Tensor):
        lists = {"list": "nn.ParameterList", "dict": "nn.ParameterDict"}
        advice = lists.get(tensor.holder, "nn.Parameter as an attribute of its own")
        return f"make it an {advice}, or register_buffer what does not learn"
    lists = {"list": "an nn.ModuleList", "dict": "an nn.ModuleDict"}
    return f"make it {lists.get(tensor.holder, 'an attribute of its own, or part of an nn.ModuleList')}"


def _memory(tensor: Tensor) -> int:
    """What tells whose memory a tensor looks at; a view of a weight has the weight's."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError, ValueError):
        return id(tensor)


def _of_classes(kind: type) -> Iterator[tuple[str, object]]:
    """The attributes of a module's classes that are no methods, torch's own classes apart."""
    for each in kind.__mro__:
        if each is nn.Module:
            return
        if not each.__module__.startswith("torch."):
            for key, value in vars(each).items():
                if isinstance(value, nn.Module | Tensor | list | tuple | dict | set):
                    yield key, value


def _inside(path: str, value: Any) -> Iterator[tuple[str, object, str]]:
    """What a value holds: its path, itself, and in what."""
    if isinstance(value, Mapping):
        yield from ((f"{path}[{key!r:.40}]", each, "dict") for key, each in list(value.items())[:_MANY])
    elif isinstance(value, list | tuple | deque):
        yield from ((f"{path}[{at}]", each, "list") for at, each in zip(range(_MANY), value))
    elif isinstance(value, Several):
        yield from ((path, each, "list") for _, each in zip(range(_MANY), value))
    elif isinstance(value, partial):
        yield from ((path, each, "value") for each in (value.func, *value.args, *value.keywords.values()))
    elif isinstance(value, MethodType):
        yield path, value.__self__, "value"
    elif isinstance(value, FunctionType):
        yield from ((path, each, "value") for each in _closed_over(value))
    elif type(value).__module__.split(".")[0] not in _CLOSED:
        yield from ((f"{path}.{key}", each, "value") for key, each in _attributes(value))


def _closed_over(function: FunctionType) -> Iterator[object]:
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    """A plain object's attributes, those in slots too, without asking a property."""
    yield from list(getattr(value, "__dict__", {}).items())
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for key in (slots,) if isinstance(slots, str) else slots:
            slot = vars(kind).get(key)
            if slot is not None and hasattr(slot, "__get__"):
                try:
                    yield key, slot.__get__(value)
                except AttributeError:
                    continue
