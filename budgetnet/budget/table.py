"""A ledger as plain text: aligned columns, totals, notes, and the convention that the numbers follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from budgetnet.text import aligned

if TYPE_CHECKING:
    from budgetnet.budget.ledger import Ledger, Row


def table(rows: Sequence[Row], ledger: Ledger) -> str:
    """Lines of text without trailing blanks: the rows that cost something or carry a note, then totals."""
    shown = [row for row in rows if row.params or row.buffers or row.macs or row.activation_bytes or row.note]
    measured = ledger.resolution is not None
    columns = ["module", "kind", "parameters", "buffers"]
    columns += ["output", "MACs", "activation bytes"] if measured else []
    lines = [columns, *(_cells(row, measured) for row in shown), _totals(ledger, measured)]
    head, *body, totals = aligned(lines, left=2).split("\n")
    rule = "-" * max(map(len, (head, *body, totals)))
    text = [head, rule, *body, rule, totals]
    text += [f"note: {label(row.name)}: {row.note}" for row in shown if row.note]
    text.append(
        f"{ledger.params:,} unique parameters ({ledger.trainable:,} trainable), {ledger.buffers:,} buffer "
        f"elements, {ledger.saved:,} bytes as saved."
    )
    if ledger.resolution is not None:
        text.append(
            "MACs are multiply-accumulates of convolutions and matrix products, batch 1, at "
            f"{ledger.resolution[0]}x{ledger.resolution[1]}; activation bytes are those of modules' outputs."
        )
    return "\n".join(text)


def label(name: str) -> str:
    """How a module is named in a text: the model itself has no name of its own."""
    return name or "(the model itself)"


def _cells(row: Row, measured: bool) -> list[str]:
    cells = [label(row.name), row.kind, f"{row.params:,}", f"{row.buffers:,}"]
    if measured:
        shape = "" if row.shape is None else "x".join(str(size) for size in row.shape[1:])
        cells += [shape, f"{row.macs:,}", f"{row.activation_bytes:,}"]
    return cells


def _totals(ledger: Ledger, measured: bool) -> list[str]:
    cells = ["total", "", f"{ledger.params:,}", f"{ledger.buffers:,}"]
    return [*cells, "", f"{ledger.macs:,}", f"{ledger.activation_bytes:,}"] if measured else cells
