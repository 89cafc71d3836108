"""The ledger of a network: what each module costs, read off the module itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

from torch import Tensor, nn

from budgetnet.budget.filed import forms, head, size
from budgetnet.budget.fit import watched
from budgetnet.budget.modules import bare, walk
from budgetnet.budget.notes import redundant, straight_in_sequence, uneven, wasted
from budgetnet.budget.table import table
from budgetnet.budget.watch import Seen, Watch


@dataclass(frozen=True)
class Row:
    """
    What one module costs by itself, without the modules inside it, so that the rows of a ledger add up to its
    totals.

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
    aside for the description of the model.
    """

    rows: tuple[Row, ...]
    resolution: tuple[int, int] | None = None
    head: int = 0

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

    def cost(self, limit: str) -> int | None:
        """What counts against a budget's limit, "params", "macs" or "bytes"; None for MACs not counted."""
        found: int | None = self.saved if limit == "bytes" else getattr(self, limit)
        return found

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
        if depth < 1:
            raise ValueError(
                f"depth={depth} groups by no part of the names: write 1 for the outermost modules"
            )
        members: dict[str, list[Row]] = {}
        for row in self.rows:
            members.setdefault(".".join(row.name.split(".")[:depth]), []).append(row)
        return tuple(_sum(name, rows) for name, rows in members.items())

    def table(self, depth: int | None = None) -> str:
        """The ledger as plain text: a line for each module that costs something, or for each group."""
        return table(self.rows if depth is None else self.groups(depth), self)

    def __repr__(self) -> str:
        return self.table()

    def json(self) -> str:
        """The totals and the rows as one JSON object."""
        totals = (
            "params",
            "trainable",
            "buffers",
            "bytes",
            "saved",
            "macs",
            "activation_bytes",
            "resolution",
        )
        return json.dumps(
            {total: getattr(self, total) for total in totals} | {"rows": [asdict(row) for row in self.rows]}
        )


def ledger(
    model: nn.Module, resolution: int | tuple[int, int] | None = None, *, channels: int | None = None
) -> Ledger:
    """
    What `model` costs, module by module; with a resolution in pixels also output shapes, MACs and activation
    bytes.

    Parameters are the unique elements of `model.parameters()`, each attributed to its first owner. MACs are
    half the operations that torch's FlopCounterMode sees in one evaluation of one image (1, channels,
    resolution, resolution) on a meta copy: the model is left as it was and nothing is computed. Without
    `channels` those of the first Conv2d are tried, then 3, then 1. Raises `DoesNotFit` when the image does
    not fit, ValueError for lazy modules.

        print(ledger(torchvision.models.resnet18(), resolution=224))
    """
    model = bare(model)
    found = walk(model)
    watch, resolved = (
        (None, None) if resolution is None else watched(model, resolution, channels, counted=True)
    )
    notes = _notes(found.modules, found.aliases, watch)
    filed = forms(model)
    owners: dict[int, str] = {}
    rows = []
    for name, module in found.modules.items():
        seen = None if watch is None else watch.seen.get(name, Seen())
        weight = sum(map(size, filed[name].values()))
        rows.append(_row(name, module, owners, seen, notes[name], weight))
    tensors = {f"{name}.{key}".lstrip("."): form for name, own in filed.items() for key, form in own.items()}
    return Ledger(tuple(rows), resolved, head(tensors))


def macs(model: nn.Module, resolution: int | tuple[int, int], *, channels: int | None = None) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image; see `ledger`."""
    watch, _ = watched(model, resolution, channels, counted=True)
    return sum(seen.macs for seen in watch.seen.values())


def _row(
    name: str, module: nn.Module, owners: dict[int, str], seen: Seen | None, notes: list[str], weight: int
) -> Row:
    prefix = f"{name}." if name else ""
    parameters = _first_owned(prefix, module._parameters, owners, notes)
    buffers = _first_owned(prefix, module._buffers, owners, notes)
    return Row(
        name=name,
        kind=type(module).__name__,
        params=sum(tensor.numel() for tensor in parameters.values()),
        buffers=sum(tensor.numel() for tensor in buffers.values()),
        trainable=sum(tensor.numel() for tensor in parameters.values() if tensor.requires_grad),
        bytes=weight,
        shape=None if seen is None else seen.shape,
        macs=None if seen is None else seen.macs,
        activation_bytes=None if seen is None else seen.activation_bytes,
        note="; ".join(notes),
    )


def _first_owned(
    prefix: str, tensors: Mapping[str, Tensor | None], owners: dict[int, str], notes: list[str]
) -> dict[str, Tensor]:
    owned = {}
    for key, tensor in tensors.items():
        if tensor is None:
            continue
        owner = owners.setdefault(id(tensor), prefix + key)
        if owner == prefix + key:
            owned[key] = tensor
        else:
            notes.append(f"{key} shared with {owner}")
    return owned


def _notes(
    modules: dict[str, nn.Module], aliases: dict[str, list[str]], watch: Watch | None
) -> dict[str, list[str]]:
    notes: dict[str, list[str]] = {name: [] for name in modules}
    for name, others in aliases.items():
        notes[name].append(f"also {' and '.join(others)}")
    if watch is None:
        straight = straight_in_sequence(modules)
    else:
        straight = {name: seen.after for name, seen in watch.seen.items() if seen.after is not None}
        for name, seen in watch.seen.items():
            if seen.calls > 1 and modules[name]._parameters:
                notes[name].append(f"called {seen.calls} times")
            notes[name] += uneven(modules[name], seen) + wasted(modules[name], seen)
        for name in watch.drew:
            notes[name].append(
                "draws random numbers in evaluation mode too, so that its figures are random: give F.dropout "
                "training=self.training, and keep nn.Dropout where eval() reaches it"
            )
        for name in watch.unused:
            notes[name].append("unused: never called in forward (evaluation mode)")
    for name, first_name in straight.items():
        first, second = modules[first_name], modules[name]
        if isinstance(first, nn.Linear) and isinstance(second, nn.Linear):
            notes[name] += redundant(first_name, first, second)
    return notes


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
