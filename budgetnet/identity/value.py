"""Value: any value described as plain JSON by what it computes by."""

import functools
import json
import math
import re
import weakref
from collections.abc import Mapping, Sequence
from collections.abc import Set as Several
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from types import FunctionType, MethodType, ModuleType
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from budgetnet.identity.classes import attributes, called, free_name, methods
from budgetnet.identity.code import file_digest, short_digest, unknown, written
from budgetnet.identity.names import Changing, Unread, closes_over, uses
from budgetnet.identity.tensors import of_array, of_generator, of_tensor, of_tensors
from budgetnet.identity.whose import KNOWN, USER, whose_class, whose_file, whose_module

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_MOST, _LONGEST, _DEEPEST = 1000, 8000, 24
# What keeps others informed or apart: nothing is computed by it.
_INERT = ("_io", "io", "_thread", "threading", "logging", "weakref", "_weakref", "queue", "_queue", "socket")

Inside = tuple[int, ...]

_first: dict[tuple[int, str], tuple["weakref.ref[Any]", dict[str, Any]]] = {}


@runtime_checkable
class Identified(Protocol):
    """A value of budgetnet's that computes by more than its fields say."""

    def identity(self) -> Mapping[str, object]:
        """What else it computes by."""
        ...


class Named:
    """A base of what is told in a few words, since who holds it tells the rest."""


def described_value(value: object) -> Any:
    """`value` as plain JSON that is equal only for what computes the same, and the same in every process.

    Objects are told by their class and attributes, those of the user's by the code of their methods too;
    functions by their code, defaults, what they close over and which globals they read; tensors by a digest.
    Whatever has no source to be read is "unknown", and equal to itself alone, within this process.
    """
    return _described(value, ())


def modules_of(model: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """The modules of a model by name, each by class and attributes, and the code of each class of the user's.

    Parameters and buffers are left out: they are what is learnt.
    """
    code = {}
    for kind in dict.fromkeys(type(module) for module in model.modules()):
        if whose_class(kind) != KNOWN:
            name = called(kind)
            while name in code:
                name += "_"
            code[name] = _bounded({"class": called(kind), **_methods(kind, ())})
    return {name or "model": _own(module, (), code=False) for name, module in model.named_modules()}, code


def without_addresses(text: str) -> str:
    """A text without the places in memory that Python shows of functions and objects."""
    return _ADDRESS.sub("", text)


def _described(value: Any, inside: Inside) -> Any:
    if isinstance(value, Enum):
        return repr(value) if not isinstance(value, int | str) else value.value
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if id(value) in inside or len(inside) > _DEEPEST:
        return f"{type(value).__name__} again" if id(value) in inside else unknown(value)
    inside = (*inside, id(value))
    for describe in (_plain, _collection, _code, _tensor, _thing):
        found = describe(value, inside)
        if found is not None:
            return found
    text = repr(value)
    return text if text == without_addresses(text) else unknown(value)


def _plain(value: Any, inside: Inside) -> Any:
    """What one short text tells."""
    if isinstance(value, bytes | bytearray):
        return f"bytes {short_digest(bytes(value))}"
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, torch.device):
        return value.type
    if isinstance(value, range | complex | slice | torch.dtype | torch.memory_format | torch.layout):
        return repr(value)
    if isinstance(value, Unread):
        return value.digest
    if isinstance(value, Named):
        return repr(value)
    if type(value) is object or type(value).__module__.partition(".")[0] in _INERT:
        return called(type(value))
    return None


def _collection(value: Any, inside: Inside) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, inside)
    if whose_class(type(value)) == USER:
        # It may do anything with what it holds.
        return None
    if isinstance(value, Mapping):
        return {str(key): _described(item, inside) for key, item in value.items()}
    if isinstance(value, Several):
        return sorted((_described(item, inside) for item in value), key=repr)
    if isinstance(value, Sequence):
        items = [_described(item, inside) for item in value]
        return items if len(items) <= _MOST else f"list of {len(items)} {short_digest(repr(items))}"
    return None


def _dataclass(value: Any, inside: Inside) -> dict[str, Any]:
    entries = {field.name: _described(getattr(value, field.name), inside) for field in fields(value)}
    kind = type(value)
    if kind.__module__.partition(".")[0] == "budgetnet" and whose_class(kind) == KNOWN:
        more = _described(value.identity(), inside) if isinstance(value, Identified) else {}
        return {"class": kind.__name__, **entries, **more}
    return {**_object(value, inside), **entries, "class": called(kind)}


def _code(value: Any, inside: Inside) -> Any:
    if isinstance(value, functools.partial):
        return _partial(value, inside)
    if isinstance(value, FunctionType):
        return _function(value, inside)
    if isinstance(value, MethodType):
        held = {"self": _described(value.__self__, inside), "function": _described(value.__func__, inside)}
        return {"class": f"method {value.__name__}", **held}
    if isinstance(value, type):
        return _class(value, inside)
    if isinstance(value, ModuleType):
        return _module(value)
    if type(value).__module__ == "functools" and callable(value):
        wrapped = getattr(value, "__wrapped__", None)
        return {"class": f"functools.{type(value).__name__}", "function": _described(wrapped, inside)}
    if isinstance(value, staticmethod | classmethod):
        return {"class": type(value).__name__, "function": _described(value.__func__, inside)}
    if isinstance(value, property):
        return [_described(part, inside) for part in (value.fget, value.fset)]
    if isinstance(value, functools.cached_property):
        return _described(value.func, inside)
    return None


def _function(value: FunctionType, inside: Inside) -> Any:
    file = value.__code__.co_filename
    own = whose_file(file) == USER
    whole = f"{value.__module__}.{value.__qualname__}"
    if not own and whose_module(value.__module__) == USER:
        # What a library wraps round a function of the user's calls itself by that function's name.
        whole = value.__code__.co_qualname
    entry: dict[str, Any] = {"class": f"function {value.__name__ if own else whole}"}
    if own:
        entry["code"] = written(value.__code__, value.__globals__)
        entry["uses"] = _with_changing(value, "uses", uses(value), inside)
        given = dict(enumerate(value.__defaults__ or ()))
        entry["defaults"] = _described({**given, **(value.__kwdefaults__ or {})}, inside)
    elif whose_file(file) != KNOWN:
        entry["code"] = _file_code(file)
    entry["closure"] = _with_changing(value, "closure", closes_over(value), inside)
    entry = {key: item for key, item in entry.items() if item != {}}
    return _bounded(entry) if len(entry) > 1 else whole


def _with_changing(owner: Any, what: str, values: Mapping[str, Any], inside: Inside) -> dict[str, Any]:
    changing = {name: item.value for name, item in values.items() if isinstance(item, Changing)}
    steady = {name: item for name, item in values.items() if name not in changing}
    described = {name: _described(item, inside) for name, item in steady.items()}
    return described | (_as_at_first(owner, what, changing, inside) if changing else {})


def _class(value: type, inside: Inside) -> Any:
    if whose_class(value) == KNOWN:
        return f"{value.__module__}.{value.__qualname__}"
    if issubclass(value, Enum):
        return {"class": f"class {called(value)}", "members": [repr(member) for member in value]}
    return _bounded({"class": f"class {called(value)}", **_methods(value, inside)})


def _methods(kind: type, inside: Inside) -> dict[str, Any]:
    """What the user's own classes of an object do, and which others they build on."""
    inside = (*inside, id(kind))
    found, bases = methods(kind)
    described = {name: _described(item, inside) for name, item in found.items()}
    return {name: part for name, part in (("methods", described), ("bases", bases)) if part}


def _module(value: ModuleType) -> str:
    name = value.__name__
    file = vars(value).get("__file__")
    if whose_module(name) == KNOWN or not isinstance(file, str):
        return f"module {name}"
    return f"module {name.rpartition('.')[2]} {_file_code(file)}"


def _file_code(file: str) -> str:
    try:
        return file_digest(file)
    except OSError:
        return unknown(file)


def _partial(value: "functools.partial[Any]", inside: Inside) -> dict[str, Any]:
    function = _described(value.func, inside)
    held = {} if isinstance(function, str) else {"function": function}
    name = function if isinstance(function, str) else function.get("class", type(value.func).__name__)
    keywords = {key: _described(item, inside) for key, item in value.keywords.items()}
    return {"arguments": _described(value.args, inside), **keywords, **held, "class": f"partial {name}"}


def _tensor(value: Any, inside: Inside) -> Any:
    if isinstance(value, Tensor):
        return of_tensor(value)
    return of_array(value) or of_generator(value)


def _thing(value: Any, inside: Inside) -> Any:
    """An object by its class and attributes, or what Python made in C by its name."""
    if isinstance(value, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return _scripted(value)
    if isinstance(value, nn.Module):
        return _network(value, inside)
    name = getattr(value, "__qualname__", None)
    if callable(value) and isinstance(name, str):
        owner = getattr(value, "__self__", None)
        held = owner is not None and not isinstance(owner, ModuleType | type)
        text = f"{value.__module__}.{name}"
        return {"class": f"method {text}", "self": _described(owner, inside)} if held else text
    if hasattr(value, "__dict__") or whose_class(type(value)) == USER:
        return _bounded(_object(value, inside))
    return None


def _object(value: Any, inside: Inside, *, code: bool = True) -> dict[str, Any]:
    kind = type(value)
    steady, moving = attributes(value)
    entry = {free_name(name): _described(item, inside) for name, item in steady.items()}
    entry |= {free_name(name): item for name, item in _as_at_first(value, "", moving, inside).items()}
    if isinstance(value, Mapping | Sequence | Several) and not isinstance(value, str):
        entry["items"] = _described(dict(value) if isinstance(value, Mapping) else list(value), inside)
    if code and whose_class(kind) != KNOWN:
        entry |= _methods(kind, inside)
    return {"class": called(kind), **entry}


def _as_at_first(owner: Any, what: str, values: Mapping[str, Any], inside: Inside) -> dict[str, Any]:
    """What an object or function may change itself, as it was when first described in this process.

    Where it was called meanwhile, what it left there for the next call is no part of what was asked for.
    """
    held = _first.get((id(owner), what))
    if held is not None and held[0]() is owner:
        return held[1]
    described = {name: _described(item, inside) for name, item in values.items()}
    with suppress(TypeError):  # of what nothing can refer to weakly
        _first[id(owner), what] = (weakref.ref(owner), described)
    return described


def _own(module: nn.Module, inside: Inside, *, code: bool = True) -> dict[str, Any]:
    """A module without its parts and tensors."""
    entry = _object(module, inside, code=code)
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    if hooks:
        entry["hooks"] = [_described(hook, inside) for hook in hooks]
    return entry


def _network(module: nn.Module, inside: Inside) -> dict[str, Any]:
    """A module that is no part of the model which learns: with its parts and all that their tensors hold."""
    entry = _own(module, inside)
    tensors = {
        name: tensor
        for name, tensor in {**module._parameters, **module._buffers}.items()
        if tensor is not None
    }
    if tensors:
        entry["tensors"] = of_tensors(tensors)
    for name, part in module._modules.items():
        entry[free_name(name, entry)] = _described(part, inside)
    return _bounded(entry)


def _scripted(value: Any) -> Any:
    """A function or module of TorchScript, by its graph."""
    graph = value.inlined_graph if isinstance(value, torch.jit.ScriptModule) else value.graph
    text = "\n".join(line.partition(" # ")[0] for line in str(graph).splitlines())
    held = of_tensors(dict(value.state_dict())) if isinstance(value, torch.jit.ScriptModule) else ""
    return {"class": type(value).__name__, "code": short_digest(text), "tensors": held}


def _bounded(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry as it is, or where it is too long for a record its class and a digest."""
    text = json.dumps(entry, sort_keys=True, default=repr)
    return entry if len(text) <= _LONGEST else {"class": entry["class"], "digest": short_digest(text)}
