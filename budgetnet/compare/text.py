"""Tables as plain text, and values in as few letters as a table has room for."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from budgetnet.console import harmless

_WIDEST = 60


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Rows of cells as lines without trailing blanks: the first `left` columns are text, the others numbers.

    The first row holds the titles.
    """
    rows = [[harmless(cell, lines=False) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        padded = (
            cell.ljust(width) if at < left else cell.rjust(width) for at, (cell, width) in enumerate(cells)
        )
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def short(value: Any) -> str:
    """A JSON value as a person would write it, in 60 letters at most: "Cosine(peak=0.1, final=0.0)"."""
    text = _written(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 4]} ..."


def _written(value: Any) -> str:
    if isinstance(value, str):
        return f"{value[:12]}..." if re.fullmatch("[0-9a-f]{64}", value) else " ".join(value.split())
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        entries = [(key, _written(item)) for key, item in value.items() if key != "class"]
        if "class" in value:
            return f"{value['class']}({', '.join(f'{key}={text}' for key, text in entries)})"
        return "{" + ", ".join(f"{key}: {text}" for key, text in entries) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(item) for item in value)}]"
    return str(value)
