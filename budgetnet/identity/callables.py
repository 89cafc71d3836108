"""Callables: functions, methods, classes and modules by their code and by what they use."""

import functools
import inspect
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

from torch import nn

from budgetnet.identity.code import file_digest, unknown, written
from budgetnet.identity.names import (
    Changing,
    changed_attributes,
    closes_over,
    given,
    read_attributes,
    uses,
)
from budgetnet.identity.whose import INSTALLED, KNOWN, USER, whose_class, whose_file, whose_module
from budgetnet.identity.within import Within, bounded

# What Python and its library keep in a class for themselves; all else between double underscores counts.
_BOOKKEEPING = (
    *("__module__", "__qualname__", "__dict__", "__weakref__", "__doc__", "__slots__", "__hash__"),
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__parameters__"),
    *("__orig_bases__", "__firstlineno__", "__static_attributes__", "__match_args__", "__abstractmethods__"),
    *("__dataclass_fields__", "__dataclass_params__", "__protocol_attrs__", "_abc_impl", "_is_protocol"),
    *("__non_callable_proto_members__", "_is_runtime_protocol", "_fields", "_field_defaults"),
)
_OF_MODULES = frozenset(vars(nn.Module()))
# What budgetnet keeps of a model at the model.
_OURS = ("built", "external", "card", "past")

_MAKING = ("__init__", "__new__", "__post_init__", "__setattr__", "__setstate__", "__init_subclass__")
# What a training calls of losses, steps, schedules and models, beside what Python calls of itself.
_CALLED = ("forward", "act", "over", "of", "transform", "make_params", "stretched")
# Contexts, which keep what was there before while they are entered.
_ENTERED = ("torch.autograd", "torch.amp", "torch.cuda.amp")
_SAID = ("class", "methods", "bases", "tensors", "hooks", "items", "digest")


def of_callable(value: Any, within: Within) -> Any:
    """What is known of a function, method, class, module or descriptor; None for what is none of them."""
    if isinstance(value, functools.partial):
        return _partial(value, within)
    if isinstance(value, FunctionType):
        return within.once(value, lambda: _function(value, within))
    if isinstance(value, MethodType):
        return {
            "class": f"method {value.__name__}",
            "self": within.of(value.__self__),
            "function": within.of(value.__func__),
        }
    if isinstance(value, type):
        return within.once(value, lambda: _class(value, within))
    if isinstance(value, ModuleType):
        return _module(value)
    return _descriptor(value, within)


def methods_of(kind: type, within: Within) -> dict[str, Any]:
    """What the user's own classes of an object do, and which others they build on."""
    defined, bases = methods(kind)
    described = within.deeper(kind).all(defined)
    return {name: part for name, part in (("methods", described), ("bases", bases)) if part}


def _descriptor(value: Any, within: Within) -> Any:
    wrapped = getattr(value, "__wrapped__", None)
    if callable(wrapped) and callable(value) and whose_class(type(value)) != USER:
        # What a library keeps beside it are the answers of calls, or what it compiled.
        return {"class": called(type(value)), "function": within.of(wrapped)}
    if isinstance(value, staticmethod | classmethod):
        return {"class": type(value).__name__, "function": within.of(value.__func__)}
    if isinstance(value, property):
        return [within.of(part) for part in (value.fget, value.fset)]
    if isinstance(value, functools.cached_property):
        return within.of(value.func)
    return None


def _function(value: FunctionType, within: Within) -> Any:
    file = value.__code__.co_filename
    own = whose_file(file) == USER
    whole = f"{value.__module__}.{value.__qualname__}"
    if not own and whose_module(value.__module__) == USER:
        # What a library wraps round a function of the user's calls itself by that function's name.
        whole = value.__code__.co_qualname
    entry: dict[str, Any] = {"class": f"function {value.__name__ if own else whole}"}
    compiled = vars(value).get("_torchdynamo_orig_callable")
    if compiled is not None:
        # What it holds besides is the compiler's, and other in each process.
        return {**entry, "function": within.of(compiled)}
    if own:
        entry["code"] = written(value.__code__, value.__globals__)
        entry["uses"] = _with_changing(value, "uses", uses(value), within)
        entry["defaults"] = _with_changing(value, "defaults", given(value), within)
    elif whose_file(file) != KNOWN:
        entry["code"] = _file_code(file)
    entry["closure"] = _with_changing(value, "closure", closes_over(value), within)
    entry = {key: item for key, item in entry.items() if item != {}}
    return bounded(entry) if len(entry) > 1 else whole


def _with_changing(owner: Any, what: str, values: Mapping[str, Any], within: Within) -> dict[str, Any]:
    changing = {name: item.value for name, item in values.items() if isinstance(item, Changing)}
    steady = within.all({name: item for name, item in values.items() if name not in changing})
    return steady | (within.at_first(owner, what, changing) if changing else {})


def _class(value: type, within: Within) -> Any:
    if whose_class(value) == KNOWN:
        return f"{value.__module__}.{value.__qualname__}"
    if issubclass(value, Enum):
        return {"class": f"class {called(value)}", "members": [repr(member) for member in value]}
    return bounded({"class": f"class {called(value)}", **methods_of(value, within)})


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


def _partial(value: "functools.partial[Any]", within: Within) -> dict[str, Any]:
    function = within.of(value.func)
    whole = {} if isinstance(function, str) else {"function": function}
    name = function if isinstance(function, str) else function.get("class", type(value.func).__name__)
    keywords = within.all(value.keywords)
    return {"arguments": within.of(value.args), **keywords, **whole, "class": f"partial {name}"}


def called(kind: type) -> str:
    """How a class is called: budgetnet's, torch.nn's and the user's by name, others with their module."""
    module = kind.__module__
    if whose_class(kind) == USER or module.partition(".")[0] in ("budgetnet", "builtins"):
        return kind.__name__
    return kind.__name__ if module.startswith("torch.nn.") else f"{module}.{kind.__qualname__}"


def methods(kind: type) -> tuple[dict[str, Any], list[str]]:
    """What the user's classes define, by name, and the names of the libraries' classes that they build on."""
    defined: dict[str, Any] = {}
    bases = []
    for owner in kind.__mro__[:-1]:
        if whose_class(owner) == USER:
            for name, value in _defined(owner):
                defined[name if owner is kind else f"{owner.__name__}.{name}"] = value
        elif whose_class(owner) == INSTALLED:
            bases.append(f"{called(owner)} {_version(owner)}")
        elif owner.__module__ not in ("typing", "abc", "builtins"):
            bases.append(called(owner))
    return defined, bases if bases != ["Module"] else []


def attributes(value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """An object's own attributes, and apart those that it changes as it is called, for the next call.

    Private ones of a library's objects are left out.
    """
    kind, own_attributes = type(value), dict(_held(value))
    if kind.__module__.startswith("torch._dynamo"):
        # The compiler's own; what it compiles is a part.
        return {}, {}
    if whose_class(kind) == KNOWN:
        whole = kind.__module__.startswith("torch.distributions")
        public = {name: item for name, item in own_attributes.items() if whole or not name.startswith("_")}
        return ({}, public) if kind.__module__.startswith(_ENTERED) else (public, {})
    own = _changed_by_itself(kind)
    moving = {name: item for name, item in own_attributes.items() if name in own}
    return {name: item for name, item in own_attributes.items() if name not in own}, moving


def free_name(name: str, taken: Collection[str] = ()) -> str:
    """A name that is none of those by which a description says something else."""
    return f"{name}_" if name in _SAID or name in taken else name


def _changed_by_itself(kind: type) -> set[str]:
    """The attributes that a class of the user's changes as it is called, in methods that calls reach."""
    own: dict[str, FunctionType] = {}
    for owner in reversed(kind.__mro__):
        if whose_class(owner) == USER:
            own |= {name: item for name, item in vars(owner).items() if isinstance(item, FunctionType)}
    reached = [name for name in own if name in _CALLED or (name.startswith("__") and name not in _MAKING)]
    changed: set[str] = set()
    for name in reached:
        changed |= changed_attributes(own[name])
        reached += [other for other in read_attributes(own[name]) if other in own and other not in reached]
    return changed


def _held(value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    inherited = _OF_MODULES.union(_OURS) if isinstance(value, nn.Module) else frozenset()
    for name, item in (vars(value) if hasattr(value, "__dict__") else {}).items():
        # What was worked out once follows from the rest.
        worked_out = isinstance(getattr(kind, name, None), functools.cached_property)
        if name not in inherited and not worked_out and not name.startswith("__"):
            yield name, item
    for owner in kind.__mro__:
        for name, slot in vars(owner).items():
            if isinstance(slot, MemberDescriptorType) and whose_class(owner) != KNOWN:
                try:
                    yield name, slot.__get__(value, kind)
                except AttributeError:  # not set
                    continue


def _defined(owner: type) -> Iterator[tuple[str, Any]]:
    """What a class defines, less what Python keeps or makes there by itself."""
    generated = is_dataclass(owner) or issubclass(owner, tuple)
    fields = vars(owner).get("__dataclass_fields__", {})
    for name, value in vars(owner).items():
        if name in _BOOKKEEPING or name in fields:
            continue
        if isinstance(value, MemberDescriptorType | GetSetDescriptorType):
            continue
        # What a dataclass shows of itself is generated inside a wrapper of the library's.
        function = inspect.unwrap(getattr(value, "__func__", value)) if callable(value) else value
        if generated and isinstance(function, FunctionType) and function.__code__.co_filename.startswith("<"):
            continue
        if generated and type(value).__name__ == "_tuplegetter":
            continue
        yield name, value


def _version(owner: type) -> str:
    """A mark of the code of an installed class: its file's."""
    file = vars(sys.modules[owner.__module__]).get("__file__") if owner.__module__ in sys.modules else None
    try:
        return file_digest(file) if isinstance(file, str) else ""
    except OSError:
        return ""
