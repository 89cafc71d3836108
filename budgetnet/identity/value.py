"""Value: any value described by what it computes by, as plain JSON, one text or a few letters."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as Several
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from types import GeneratorType, ModuleType
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from budgetnet.identity.callables import attributes, called, free_name, methods_of, of_callable
from budgetnet.identity.code import short_digest, unknown
from budgetnet.identity.names import Unread
from budgetnet.identity.tensors import of_array, of_generator, of_tensor, of_tensors
from budgetnet.identity.whose import KNOWN, USER, whose_class
from budgetnet.identity.within import Within, bounded

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
UNSAID = {"unsaid": True}
"""The metadata of a field that is told of only where it is not at its default."""
_MOST, _DEEPEST, _LONGEST = 1000, 24, 100
# What keeps others informed or apart: nothing is computed by it.
_INERT = ("_io", "io", "_thread", "threading", "logging", "weakref", "_weakref", "queue", "_queue", "socket")


@runtime_checkable
class Identified(Protocol):
    """A value of budgetnet's that computes by more than its fields say."""

    def identity(self) -> Mapping[str, object]:
        """What else it computes by."""


@runtime_checkable
class Fingerprinted(Protocol):
    """A value of budgetnet's whose content has a fingerprint: a split."""

    def fingerprint(self) -> str:
        """The fingerprint."""


class Named:
    """A base of what is told in a few words, since who holds it tells the rest."""


def described_value(value: object, *, apart: Iterable[object] = ()) -> Any:
    """`value` as plain JSON that is equal only for what computes the same, and the same in every process.

    Objects are told by their class and attributes, those of the user's by the code of their methods too;
    functions by their code, defaults, what they close over and which globals they read; tensors by a digest.
    Whatever has no source to be read is "unknown", and equal to itself alone, within this process. What is
    `apart` is only named, wherever it is met: the model that learns.
    """
    return _described(value, Within(_described, apart=frozenset(id(item) for item in apart)))


def modules_of(model: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """The modules of a model by name, each by class and attributes, and the code of each class of the user's.

    Parameters and buffers are left out: they are what is learnt.
    """
    code: dict[str, Any] = {}
    apart = [*model.modules(), *model.parameters(), *model.buffers()]
    within = Within(_described, apart=frozenset(id(item) for item in apart))
    for kind in dict.fromkeys(type(module) for module in model.modules()):
        if whose_class(kind) != KNOWN:
            name = called(kind)
            while name in code:
                name += "_"
            code[name] = bounded({"class": called(kind), **methods_of(kind, within)})
    named = model.named_modules()
    return {name or "model": bounded(_own(module, within, code=False)) for name, module in named}, code


def said(value: object, field: "Field[Any]") -> bool:
    """Whether a field is told of: one that is UNSAID only where it is not at its default.

    So may a class get a field, and what was described before stay equal.
    """
    return "unsaid" not in field.metadata or getattr(value, field.name) != field.default


def told(value: object) -> str:
    """A value as Python writes it, where that says all of it, or else as it is described.

    >>> told([0.1, None]), told(len)
    ('[0.1, None]', 'builtins.len')
    """
    if _says_all(value):
        return repr(value)
    text = _text(described_value(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... {short_digest(text)}"


def mark(value: object) -> str:
    """A few letters that are another value's only where that computes the same."""
    return short_digest(json.dumps(described_value(value), sort_keys=True))


def file_mark(path: Path) -> str | None:
    """A few letters of the content of a file, None where there is none that can be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError:
        return None


def without_addresses(text: str) -> str:
    """A text without the places in memory that Python shows of functions and objects."""
    return _ADDRESS.sub("", text)


def _described(value: Any, within: Within) -> Any:
    if isinstance(value, Enum):
        return repr(value) if not isinstance(value, int | str) else value.value
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if id(value) in within.path:
        return f"{type(value).__name__} again"
    if id(value) in within.apart:
        return f"{type(value).__name__} of the model"
    if len(within.path) > _DEEPEST:
        return unknown(value)
    try:
        return _told(value, within.deeper(value))
    except Exception:  # the user's objects may refuse to be looked at
        return unknown(value)


def _told(value: Any, within: Within) -> Any:
    for describe in (_plain, _collection, of_callable, _tensor, _thing):
        description = describe(value, within)
        if description is not None:
            return description
    text = repr(value)
    return text if text == without_addresses(text) else unknown(value)


def _plain(value: Any, within: Within) -> Any:
    """What one short text tells."""
    if isinstance(value, bytes | bytearray):
        return f"bytes {short_digest(bytes(value))}"
    if isinstance(value, PurePath):
        return _place(value)
    if isinstance(value, GeneratorType | os._Environ):
        # A generator is made by what is described beside it; an environment may hold secrets.
        return type(value).__name__
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


def _place(path: PurePath) -> str:
    """A path as from here or from home, where it lies there: whole ones differ from machine to machine."""
    for folder, short in ((Path.cwd(), "."), (Path.home(), "~")):
        if path.is_relative_to(folder):
            return (PurePath(short) / path.relative_to(folder)).as_posix()
    return str(path)


def _collection(value: Any, within: Within) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, within)
    if whose_class(type(value)) == USER:
        # It may do anything with what it holds.
        return None
    if isinstance(value, Mapping):
        return {str(key): within.of(item) for key, item in value.items()}
    if isinstance(value, Several):
        return sorted((within.of(item) for item in value), key=repr)
    if isinstance(value, Sequence):
        items = [within.of(item) for item in value]
        return items if len(items) <= _MOST else f"list of {len(items)} {short_digest(repr(items))}"
    return None


def _dataclass(value: Any, within: Within) -> dict[str, Any]:
    kind = type(value)
    ours = kind.__module__.partition(".")[0] == "budgetnet" and whose_class(kind) == KNOWN
    if ours and isinstance(value, Fingerprinted):
        return {"class": kind.__name__, "fingerprint": value.fingerprint()}
    entries = {each.name: within.of(getattr(value, each.name)) for each in fields(value) if said(value, each)}
    if ours:
        more = within.all(value.identity()) if isinstance(value, Identified) else {}
        return {"class": kind.__name__, **entries, **more}
    return {**_object(value, within), **entries, "class": called(kind)}


def _tensor(value: Any, within: Within) -> Any:
    if isinstance(value, Tensor):
        return of_tensor(value)
    return of_array(value) or of_generator(value)


def _thing(value: Any, within: Within) -> Any:
    """An object by its class and attributes, or what Python made in C by its name."""
    if isinstance(value, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return _scripted(value)
    if isinstance(value, nn.Module):
        return _network(value, within)
    name = getattr(value, "__qualname__", None)
    if callable(value) and isinstance(name, str):
        owner = getattr(value, "__self__", None)
        bound = owner is not None and not isinstance(owner, ModuleType | type)
        text = f"{getattr(value, '__module__', None)}.{name}"
        return {"class": f"method {text}", "self": within.of(owner)} if bound else text
    if hasattr(value, "__dict__") or whose_class(type(value)) == USER:
        return bounded(_object(value, within))
    return None


def _object(value: Any, within: Within, *, code: bool = True) -> dict[str, Any]:
    kind = type(value)
    steady, moving = attributes(value)
    entry = {free_name(name): within.of(item) for name, item in steady.items()}
    entry |= {free_name(name): item for name, item in within.at_first(value, "", moving).items()}
    if isinstance(value, Mapping | Sequence | Several) and not isinstance(value, str):
        entry["items"] = within.of(dict(value) if isinstance(value, Mapping) else list(value))
    if code and whose_class(kind) != KNOWN:
        entry |= methods_of(kind, within)
    return {"class": called(kind), **entry}


def _own(module: nn.Module, within: Within, *, code: bool = True) -> dict[str, Any]:
    """A module without its parts and tensors."""
    entry = _object(module, within, code=code)
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    if hooks:
        entry["hooks"] = [within.of(hook) for hook in hooks]
    return entry


def _network(module: nn.Module, within: Within) -> dict[str, Any]:
    """A module that is no part of the model which learns: with its parts and all that their tensors hold."""
    entry = _own(module, within)
    own = {**module._parameters, **module._buffers}
    tensors = {name: tensor for name, tensor in own.items() if tensor is not None}
    if tensors:
        entry["tensors"] = of_tensors(tensors)
    for name, part in module._modules.items():
        entry[free_name(name, entry)] = within.of(part)
    return bounded(entry)


def _scripted(value: Any) -> Any:
    """A function or module of TorchScript, by its graph."""
    graph = value.inlined_graph if isinstance(value, torch.jit.ScriptModule) else value.graph
    text = "\n".join(line.partition(" # ")[0] for line in str(graph).splitlines())
    tensors = of_tensors(dict(value.state_dict())) if isinstance(value, torch.jit.ScriptModule) else ""
    return {"class": type(value).__name__, "code": short_digest(text), "tensors": tensors}


def _says_all(value: object) -> bool:
    """Whether `repr` of a value says all that it computes by."""
    if isinstance(value, tuple | list | set | frozenset | dict) and type(value).__module__ == "builtins":
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        return all(_says_all(item) for item in items)
    if is_dataclass(value) and not isinstance(value, type):
        ours = type(value).__module__.startswith("budgetnet.") and whose_class(type(value)) == KNOWN
        # One that writes itself in its own way may leave something out.
        plain = ours and type(value).__repr__.__qualname__.startswith("__create_fn__")
        return plain and all(_says_all(getattr(value, field.name)) for field in fields(value))
    return isinstance(value, bool | int | float | str | bytes | PurePath) or value is None


def _text(described: Any) -> str:
    """A description as a person would write the value: "CrossEntropyLoss(label_smoothing=0.5)"."""
    if isinstance(described, Mapping):
        code = described.get("code")
        if code is not None and str(described.get("class", "")).startswith("function "):
            rest = {key: item for key, item in described.items() if key not in ("class", "code")}
            name = code if str(code).startswith("lambda") else f"{described['class'][9:]} {code}"
            return f"{name} {_text(rest)}" if rest else str(name)
        entries = [f"{key}={_text(item)}" for key, item in described.items() if key != "class"]
        return f"{described.get('class', '')}({', '.join(entries)})"
    if isinstance(described, list):
        return f"[{', '.join(_text(item) for item in described)}]"
    return described if isinstance(described, str) else json.dumps(described)
