"""Names: what a function uses beside its own text: the globals that it reads, and what it closes over."""

import ast
import os
import sys
from collections import deque
from collections.abc import Iterator, MutableMapping, MutableSequence, MutableSet
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from budgetnet.identity.code import Lines, file_digest, node_of
from budgetnet.identity.whose import USER, whose_module

_CONTAINERS = (MutableMapping, MutableSequence, MutableSet, deque, int, float, str, tuple, type(None))
_DECLARED = (ast.Global, ast.Nonlocal)


class Changing:
    """A container or number that the function itself changes: a counter, a log, a cache."""

    def __init__(self, value: object) -> None:
        self.value = value


class Unread:
    """Stands for a module beside the function's file that it imports when it is called."""

    def __init__(self, digest: str) -> None:
        self.digest = digest


def uses(function: FunctionType) -> dict[str, Any]:
    """The values of the globals that a function of the user's reads, by name: "ALPHA", "losses.focal"."""
    node, names = node_of(function.__code__, function.__globals__), function.__globals__
    if node is None:
        # Its code is unknown, so that what it reads makes no difference any more.
        return {}
    read = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} & _names(function.__code__)
    changed = changes(node)
    used: dict[str, Any] = {}
    # A module's own names for itself say where it lies.
    for name in sorted(name for name in read & names.keys() if not name.startswith("__")):
        value = names[name]
        if isinstance(value, ModuleType):
            used |= dict(_of_module(node, name, value))
        else:
            used[name] = _apart(value, name in changed)
    return used | dict(_imported(node, function.__code__.co_filename))


def closes_over(function: FunctionType) -> dict[str, Any]:
    """What a function closes over, by name; but for its own class, which a method without arguments of
    `super()` holds."""
    node = node_of(function.__code__, function.__globals__)
    changed, values = changes(node) if node is not None else set(), {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if name != "__class__" and value is not function:
            values[name] = _apart(value, name in changed)
    return values


def changes(node: Lines) -> set[str]:
    """The names of what a function changes itself: `LOG.append(x)`, `CACHE[k] = x`, `global COUNT`."""
    declared = {name for part in ast.walk(node) if isinstance(part, _DECLARED) for name in part.names}
    return declared | {part.id for part in _changed(node) if isinstance(part, ast.Name)}


def changed_attributes(function: FunctionType) -> set[str]:
    """The attributes of its object that a method assigns or changes: `self.calls += 1`."""
    node = node_of(function.__code__, function.__globals__)
    arguments = function.__code__.co_varnames[:1]
    if node is None or not arguments:
        return set()
    assigned = [p for p in ast.walk(node) if isinstance(p, ast.Attribute) and isinstance(p.ctx, ast.Store)]
    return {
        part.attr
        for part in [*assigned, *_changed(node)]
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name)
        if part.value.id == arguments[0]
    }


def read_attributes(function: FunctionType) -> list[str]:
    """The attributes of its object that a method reads, its other methods among them."""
    node = node_of(function.__code__, function.__globals__)
    first = function.__code__.co_varnames[:1]
    parts = ast.walk(node) if node is not None and first else ()
    return [
        part.attr
        for part in parts
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == first[0]
    ]


def given(function: FunctionType) -> dict[str, Any]:
    """The defaults of a function, and the attributes that were set on it, by name."""
    code, values = function.__code__, function.__defaults__ or ()
    positional = code.co_varnames[code.co_argcount - len(values) : code.co_argcount]
    defaults = dict(zip(positional, values)) | (function.__kwdefaults__ or {})
    node = node_of(code, function.__globals__)
    changed = changes(node) if node is not None else set()
    own = {name: item for name, item in vars(function).items() if not name.startswith("_")}
    moved = _own_attributes(node, function.__name__) if node is not None else set()
    return {
        **{f"{name}": _apart(item, name in changed) for name, item in defaults.items()},
        **{f".{name}": Changing(item) if name in moved else item for name, item in own.items()},
    }


def _own_attributes(node: Lines, name: str) -> set[str]:
    """What a function changes of its own attributes: `f.calls += 1`."""
    return {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
        if isinstance(part.value, ast.Name) and part.value.id == name
    }


def _apart(value: Any, changed: bool) -> Any:
    """A value, marked where it is a number or container that the function changes."""
    return Changing(value) if changed and isinstance(value, _CONTAINERS) else value


def _changed(node: Lines) -> Iterator[ast.expr]:
    """What is changed in its place: the `x` of `x[k] = y`, `del x[k]` and `x.append(y)`."""
    for part in ast.walk(node):
        if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store | ast.Del):
            yield part.value
        call = part.value if isinstance(part, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            yield call.func.value


def _names(code: CodeType) -> set[str]:
    """The names that a function's code, or that of a function within it, does not take from itself."""
    names = set(code.co_names)
    for part in code.co_consts:
        if isinstance(part, CodeType):
            names |= _names(part)
    return names


def _of_module(node: Lines, name: str, module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What is used of a module: its attributes where it is the user's own, or else its name."""
    if whose_module(module.__name__) != USER:
        yield name, module
        return
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute):
            chain = _chain(part)
            if chain[:1] == [name]:
                value: Any = module
                for at, attribute in enumerate(chain[1:], start=2):
                    value = vars(value).get(attribute)
                    if not isinstance(value, ModuleType):
                        yield ".".join(chain[:at]), value
                        break


def _chain(node: ast.expr) -> list[str]:
    """`a.b.c` as its names, the outermost attribute last; nothing of what does not begin with a name."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        inner = _chain(node.value)
        return [*inner, node.attr] if inner else []
    return []


def _imported(node: Lines, file: str) -> Iterator[tuple[str, Any]]:
    """The modules beside the function's file that it imports within itself, whether it did so yet or not."""
    folder = Path(os.path.abspath(file)).parent
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            names = [alias.name for alias in part.names]
        elif isinstance(part, ast.ImportFrom) and part.module and not part.level:
            names = [part.module]
        else:
            continue
        for name in names:
            path = module_file(folder, name)
            if path is not None and name.partition(".")[0] not in sys.stdlib_module_names:
                yield f"import {name}", Unread(file_digest(str(path)))


def module_file(folder: Path, name: str) -> Path | None:
    """The file of the module `name` in a folder, None where it is none of those there."""
    stem = folder.joinpath(*name.split("."))
    for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):
            continue
    return None
