"""Callables: functions, methods, classes and modules by their code and by what they use."""

import functools
from collections.abc import Mapping
from enum import Enum
from types import FunctionType, MethodType, ModuleType
from typing import Any

from budgetnet.identity.classes import called, methods
from budgetnet.identity.code import file_digest, unknown, written
from budgetnet.identity.names import Changing, closes_over, given, uses
from budgetnet.identity.whose import KNOWN, USER, whose_class, whose_file, whose_module
from budgetnet.identity.within import Within, bounded


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
