"""Ledger: what each module of a network costs, and the totals, as values and as text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from budgetnet.budget.live import Peak
from budgetnet.text import aligned
from budgetnet.values import whole

Stored: TypeAlias = Literal["int8"]
"""How weights are stored in the file that ships, where that is not as `save` does."""


@dataclass(frozen=True)
class Row:
    """What one module costs by itself, without the modules inside it, so that the rows of a ledger add up to
    its totals.

    `params`, `trainable` and `buffers` are elements, `bytes` those of its tensors in a file; `shape` (its
    first output, batch included), `macs` and `activation_bytes` (of outputs newly made) are None without a
    resolution.
    """

    name: str
    kind: str
    params: int
    buffers: int
    trainable: int
    bytes: int
    shape: tuple[int, ...] | None = None
    macs: int | None = None
    activation_bytes: int | None = None
    note: str = ""


@dataclass(frozen=True, repr=False)
class Ledger:
    """The rows of a model in definition order, their totals, and the (height, width) of the MACs.

    `head` are the bytes of a saved file before its tensors: the table of their names, and 2,048 that are set
    aside for the description of the model. `peak` is where most activations are live at once. `stored` says
    of which file the bytes are, if not of that of `save`. `latency` are the seconds that a budget of latency
    measured for one image.
    """

    rows: tuple[Row, ...]
    resolution: tuple[int, int] | None = None
    head: int = 0
    peak: Peak | None = None
    stored: Stored | None = None
    latency: float | None = None

    @cached_property
    def params(self) -> int:
        """Unique parameter elements: shared ones once, frozen and unused ones included."""
        return sum(row.params for row in self.rows)

    @cached_property
    def trainable(self) -> int:
        """Those of the parameter elements that require a gradient."""
        return sum(row.trainable for row in self.rows)

    @cached_property
    def buffers(self) -> int:
        """Buffer elements, such as the statistics of batch norms."""
        return sum(row.buffers for row in self.rows)

    @cached_property
    def bytes(self) -> int:
        """Bytes of the tensors in a file: parameters and persistent buffers, the file's head apart."""
        return sum(row.bytes for row in self.rows)

    @cached_property
    def saved(self) -> int:
        """Bytes of the whole file that `save` writes, at most: what a budget's `bytes` limits."""
        return self.head + self.bytes

    @property
    def ram(self) -> int | None:
        """Bytes of activations that are live at once, at most, for one image; None without a resolution."""
        return None if self.peak is None else self.peak.bytes

    def cost(self, limit: str) -> int | None:
        """What counts against a budget's limit, "params", "macs", "bytes", "ram" or "latency".

        Latency is in microseconds. None for what was not counted.
        """
        if limit == "latency":
            return None if self.latency is None else round(10**6 * self.latency)
        cost: int | None = self.saved if limit == "bytes" else getattr(self, limit)
        return cost

    @cached_property
    def macs(self) -> int | None:
        """Multiply-accumulates of convolutions and matrix products per image; None without a resolution."""
        return None if self.resolution is None else sum(row.macs or 0 for row in self.rows)

    @cached_property
    def activation_bytes(self) -> int | None:
        """Bytes of all modules' outputs per image; None without a resolution."""
        return None if self.resolution is None else sum(row.activation_bytes or 0 for row in self.rows)

    def groups(self, depth: int = 1) -> tuple[Row, ...]:
        """The rows added up by the first `depth` parts of their names: `layer1` at 1, `layer1.0` at 2."""
        whole("depth", depth)
        members: dict[str, list[Row]] = {}
        for row in self.rows:
            members.setdefault(".".join(row.name.split(".")[:depth]), []).append(row)
        return tuple(_sum(name, rows) for name, rows in members.items())

    def table(self, depth: int | None = None) -> str:
        """The ledger as plain text: a line for each module that costs something, or for each group."""
        rows = self.rows if depth is None else self.groups(depth)
        shown = [
            row for row in rows if row.params or row.buffers or row.macs or row.activation_bytes or row.note
        ]
        measured = self.resolution is not None
        columns = ["module", "kind", "parameters", "buffers"]
        columns += ["output", "MACs", "activation bytes"] if measured else []
        totals = ["total", "", f"{self.params:,}", f"{self.buffers:,}"]
        totals += ["", f"{self.macs:,}", f"{self.activation_bytes:,}"] if measured else []
        lines = [columns, *(_cells(row, measured) for row in shown), totals]
        head, *body, total = aligned(lines, left=2).split("\n")
        rule = "-" * max(map(len, (head, *body, total)))
        text = [head, rule, *body, rule, total]
        text += [f"note: {label(row.name)}: {row.note}" for row in shown if row.note]
        text.append(
            f"{self.params:,} unique parameters ({self.trainable:,} trainable), {self.buffers:,} buffer "
            f"elements, {self.saved:,} bytes as {self.stored or 'saved'}."
        )
        if self.resolution is not None:
            text.append(
                "MACs are multiply-accumulates of convolutions and matrix products, batch 1, at "
                f"{self.resolution[0]}x{self.resolution[1]}; activation bytes are those of modules' outputs."
            )
        if self.peak is not None:
            text.append(
                f"{self.peak.bytes:,} bytes of activations are live at once, at most, in "
                f"{label(self.peak.module)}."
            )
        return "\n".join(text)

    def __repr__(self) -> str:
        return self.table()

    def json(self) -> str:
        """The totals and the rows as one JSON object."""
        names = ("params", "trainable", "buffers", "bytes", "saved", "macs", "activation_bytes", "resolution")
        totals = {name: getattr(self, name) for name in names}
        totals["latency"] = self.latency
        totals["peak"] = None if self.peak is None else asdict(self.peak)
        return json.dumps(totals | {"rows": [asdict(row) for row in self.rows]})


def label(name: str) -> str:
    """How a module is named in a text: the model itself has no name of its own."""
    return name or "(the model itself)"


def _cells(row: Row, measured: bool) -> list[str]:
    cells = [label(row.name), row.kind, f"{row.params:,}", f"{row.buffers:,}"]
    if measured:
        shape = "" if row.shape is None else "x".join(str(size) for size in row.shape[1:])
        cells += [shape, f"{row.macs:,}", f"{row.activation_bytes:,}"]
    return cells


def _sum(name: str, rows: list[Row]) -> Row:
    head = rows[0]  # a module stands before those inside it
    measured = head.macs is not None
    prefix = f"{name}." if name else ""
    notes = (
        f"{row.name.removeprefix(prefix)}: {row.note}" if row is not head else row.note
        for row in rows
        if row.note
    )
    return Row(
        name=name,
        kind=head.kind,
        params=sum(row.params for row in rows),
        buffers=sum(row.buffers for row in rows),
        trainable=sum(row.trainable for row in rows),
        bytes=sum(row.bytes for row in rows),
        shape=head.shape,
        macs=sum(row.macs or 0 for row in rows) if measured else None,
        activation_bytes=sum(row.activation_bytes or 0 for row in rows) if measured else None,
        note="; ".join(notes),
    )
