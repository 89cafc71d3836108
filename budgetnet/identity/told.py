"""Told: a value as one text, which is another's only where that computes the same."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any

from budgetnet.identity.code import short_digest
from budgetnet.identity.value import described_value
from budgetnet.identity.whose import KNOWN, whose_class

_LONGEST = 100


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
