"""Code: the source of a function as a short text that knows nothing of places, comments or annotations."""

import ast
import hashlib
import json
import linecache
import os
import re
import secrets
import time
from collections.abc import Iterator
from functools import cache
from types import CodeType
from typing import Any

UNKNOWN = "unknown"
"""How the code of what has no source begins: no two processes call it the same."""

Lines = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_BEGAN = time.time()
_SHORTEST_NAME, _LONGEST_TEXT = 12, 60
_PLACES = ("lineno", "end_lineno", "col_offset", "end_col_offset", "ctx", "type_comment", "kind")
_ANNOTATED = ("annotation", "returns", "type_params")

_MARKED = re.compile(f"{UNKNOWN} [0-9a-f]{{12}}")
_ROOMS = re.compile(r"\bbudgetnet(\.[a-z_]\w*)+(?=\.\w)")

_nodes: dict[int, tuple[CodeType, Lines | None]] = {}
_trees: dict[str, tuple[str, ast.Module | None]] = {}
_codes: dict[str, tuple[str, list[CodeType]]] = {}
_unknown: dict[int, tuple[object, str]] = {}


def short_digest(content: bytes | str) -> str:
    """The beginning of a SHA-256, long enough to tell one content from another."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()[:_SHORTEST_NAME]


def unknown(value: object) -> str:
    """A text for what cannot be told: the same for the same object in this process, and for nothing else."""
    if id(value) not in _unknown:
        # The object is held, so that no other ever has its id.
        _unknown[id(value)] = (value, f"{UNKNOWN} {secrets.token_hex(6)}")
    return _unknown[id(value)][1]


def without_unknown(text: str) -> str:
    """A text in which all that is unknown reads alike: for who knows by other means that it is the same."""
    return _MARKED.sub(UNKNOWN, text)


def without_rooms(described: Any) -> Any:
    """A description in which what is budgetnet's is called as "budgetnet.stl10", in whichever file it is."""
    return json.loads(_ROOMS.sub("budgetnet", json.dumps(described, default=str)))


def written(code: CodeType, names: dict[str, Any]) -> str:
    """The code of a function: its text where it is a short lambda, a digest, or that it is unknown.

    `names` are the globals of the function.
    """
    node = node_of(code, names)
    if node is None:
        return unknown(code)
    if isinstance(node, ast.Lambda):
        text = ast.unparse(node)
        # How text within f-strings is quoted depends on Python.
        if len(text) <= _LONGEST_TEXT and not any(isinstance(part, ast.JoinedStr) for part in ast.walk(node)):
            return text
    return short_digest(plain(node))


def node_of(code: CodeType, names: dict[str, Any]) -> Lines | None:
    """The part of its source that a function was made from; None where there is none, or not any more."""
    if id(code) not in _nodes:
        tree = _tree(code, names)
        _nodes[id(code)] = (code, _found(tree, code) if tree is not None else None)
    return _nodes[id(code)][1]


def plain(node: Any) -> str:
    """A syntax tree as text that is the same on each Python: without places, docstrings and annotations."""
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__} {node.value!r}"
    if isinstance(node, ast.AST):
        entries = []
        for name, value in ast.iter_fields(node):
            if name in _PLACES or name in _ANNOTATED or value is None or value == []:
                continue
            body = _undocumented(node, value) if name == "body" else value
            entries.append(f"{name}={plain(body)}")
        return f"{type(node).__name__}({', '.join(entries)})"
    if isinstance(node, list):
        return f"[{', '.join(plain(item) for item in node)}]"
    return repr(node)


def file_digest(path: str) -> str:
    """A digest of the code in a file, its comments left out; of its bytes where it is no Python."""
    return _file_digest(path, os.stat(path).st_mtime_ns)


@cache
def _file_digest(path: str, changed: int) -> str:
    with open(path, "rb") as file:
        content = file.read()
    try:
        return short_digest(plain(ast.parse(content)))
    except (SyntaxError, ValueError, RecursionError):
        return short_digest(content)


def _undocumented(owner: ast.AST, body: Any) -> Any:
    """The body of a function, class or module without its docstring."""
    owners = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
    if isinstance(owner, owners) and body and isinstance(body[0], ast.Expr):
        first = body[0].value
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            return body[1:]
    return body


def _tree(code: CodeType, names: dict[str, Any]) -> ast.Module | None:
    """The source that a function's code lies in, if it can be had and is what was executed."""
    name = code.co_filename
    linecache.checkcache(name)
    text = "".join(linecache.getlines(name, names))
    if not text:
        return None
    parsed = _trees.get(name)
    if parsed is None or parsed[0] != text:
        try:
            parsed = (text, ast.parse(text))
        except (SyntaxError, ValueError, RecursionError):
            parsed = (text, None)
        _trees[name] = parsed
    # A file may have been edited after it was executed; what was there before can be told at no cost.
    if parsed[1] is not None and _edited(name) and not _compiles_to(text, code):
        return None
    return parsed[1]


def _edited(name: str) -> bool:
    try:
        return os.stat(name).st_mtime >= _BEGAN - 1
    except OSError:
        return False


def _compiles_to(text: str, code: CodeType) -> bool:
    """Whether this text has a function with just this code; nothing of it is executed."""
    name = code.co_filename
    if name not in _codes or _codes[name][0] != text:
        compiled = [compile(text, name, "exec", dont_inherit=True)]
        for each in compiled:
            compiled += [part for part in each.co_consts if isinstance(part, CodeType)]
        _codes[name] = (text, compiled)
    return code in _codes[name][1]


def _found(tree: ast.Module, code: CodeType) -> Lines | None:
    """The function or lambda of the tree that this code was compiled from."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, Lines) and _begins(node, code)]
    if len(nodes) < 2:
        return nodes[0] if nodes else None
    # Several in one line: the smallest that all of the code lies in.
    inside = [node for node in nodes if isinstance(node, ast.Lambda) and _holds(node.body, code)]
    if not inside:
        return None
    return min(inside, key=lambda node: len(plain(node.body)))


def _begins(node: Lines, code: CodeType) -> bool:
    if isinstance(node, ast.Lambda):
        return code.co_name == "<lambda>" and node.lineno == code.co_firstlineno
    first = min([node.lineno, *(part.lineno for part in node.decorator_list)])
    return node.name == code.co_name and first == code.co_firstlineno


def _holds(body: ast.expr, code: CodeType) -> bool:
    """Whether all instructions come from within `body`; False where nobody kept from where they come."""
    start, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    spans = list(_spans(code))
    return bool(spans) and all(start <= first and last <= end for first, last in spans)


def _spans(code: CodeType) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where in the source the instructions begin and end: lines and columns."""
    for line, last, column, end in code.co_positions():
        if line is None or last is None or column is None or end is None:
            continue
        if (line, column) != (last, end):
            yield (line, column), (last, end)
