"""The layer table that torchsummary prints, put right: a row for each call, each parameter counted once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from budgetnet.budget.counting import ledger
from budgetnet.budget.fit import watched
from budgetnet.budget.ledger import Row
from budgetnet.budget.modules import bare
from budgetnet.budget.watch import Watch

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_MEBIBYTE = 2**20
_WIDTHS = (20, 25, 15)  # torchsummary's
_LONGEST = 40

_CONVENTIONS = """\
A row is one call of a layer, in the order in which the calls end, for one image in evaluation mode. A layer
called again says as which row: its parameters count once, as do shared ones; bare ones and those of layers
never called count too. Output -1 is the batch. MACs are multiply-accumulates of convolutions and matrix
products. The forward pass is what modules' outputs take, once where they share memory, without gradients:
torchsummary doubles it for them. 1 MiB is 1,048,576 bytes, which torchsummary calls MB."""


@dataclass(frozen=True)
class Layer:
    """One row: a call of the module `name`, or a module that was never called.

    `number` is counted from 1 in the order in which calls end, None without a call; `shape` is that of the
    first output, batch included; `params` are the elements that this row counts; `first` is the number of the
    row that counts them where an earlier call did; `note` says where else shared ones are counted.
    """

    number: int | None
    name: str
    kind: str
    shape: tuple[int, ...] | None
    params: int
    first: int | None = None
    note: str = ""

    @property
    def label(self) -> str:
        """`Conv2d-1`, or `head.2 (Linear)` where it has no number."""
        return (
            f"{self.name or 'the model'} ({self.kind})"
            if self.number is None
            else f"{self.kind}-{self.number}"
        )


@dataclass(frozen=True, repr=False)
class Summary:
    """The rows of a model in the order of execution, and its totals; `str()` is the table.

    `image` is the shape (1, C, H, W) that was put through; the bytes are those of one image, of the outputs
    of all modules for it, and of the parameters.
    """

    layers: tuple[Layer, ...]
    params: int
    trainable: int
    macs: int
    image: tuple[int, ...]
    input_bytes: int
    forward_bytes: int
    params_bytes: int

    def __repr__(self) -> str:
        rows = [("Layer (type)", "Output Shape", "Param #"), *map(_cells, self.layers)]
        # A long name without a call sticks out rather than moving all others.
        widths = [
            max(least, *(len(row[at]) for row in rows if len(row[at]) <= _LONGEST))
            for at, least in enumerate(_WIDTHS)
        ]
        head, *lines = [f"{a:>{widths[0]}}  {b:>{widths[1]}} {c:>{widths[2]}}" for a, b, c in rows]
        thin, thick = ("-" * (sum(widths) + 4), "=" * (sum(widths) + 4))
        notes = [f"note: {layer.label}: {layer.note}" for layer in self.layers if layer.note]
        total = self.input_bytes + self.forward_bytes + self.params_bytes
        sizes = (
            ("Input size", self.input_bytes),
            ("Forward pass size", self.forward_bytes),
            ("Params size", self.params_bytes),
            ("Estimated total size", total),
        )
        return "\n".join(
            [
                *(thin, head, thick, *lines, thick),
                f"Total params: {self.params:,}",
                f"Trainable params: {self.trainable:,}",
                f"Non-trainable params: {self.params - self.trainable:,}",
                f"MACs: {self.macs:,} at {'x'.join(map(str, self.image[1:]))}",
                thin,
                *(f"{name} (MiB): {size / _MEBIBYTE:.2f}" for name, size in sizes),
                *(thin, *notes, _CONVENTIONS),
            ]
        )

    def json(self) -> str:
        """The rows and the totals as one JSON object."""
        return json.dumps(asdict(self))


def summary(
    model: nn.Module,
    resolution: int | tuple[int, int],
    *,
    channels: int | None = None,
    blocks: bool = False,
) -> Summary:
    """The layers of `model` as torchsummary lists them, for an image of `resolution` pixels, with right
    totals.

    Layers are the modules that hold no others, and those with parameters of their own. `blocks=True` lists
    every module but the model itself, Sequential and ModuleList, as torchsummary does, so that rows have its
    numbers also where a network is made of blocks. Where torchsummary is wrong the table differs: a layer
    called three times has three rows and is counted once; shared, bare and never called parameters count as
    in `ledger`, whose numbers these are. Raises what `ledger` raises.

        print(summary(torchvision.models.vgg11(), 224))
    """
    model = bare(model)
    watch, _ = watched(model, resolution, channels)
    counts = ledger(model, resolution, channels=channels)
    table = _Table(model, watch, {row.name: row for row in counts.rows}, blocks)
    given = watch.seen[""].given
    assert given is not None
    parameters = list(model.parameters())
    floating = (each.element_size() for each in parameters if each.is_floating_point())
    return Summary(
        layers=tuple(table.rows()),
        params=counts.params,
        trainable=counts.trainable,
        macs=counts.macs or 0,
        image=given,
        input_bytes=math.prod(given) * next(floating, torch.float32.itemsize),
        forward_bytes=counts.activation_bytes or 0,
        params_bytes=sum(each.nbytes for each in parameters),
    )


@dataclass
class _Table:
    """Makes the rows, each parameter in the first row of its module."""

    model: nn.Module
    watch: Watch
    counts: dict[str, Row]
    blocks: bool
    first: dict[str, int] = field(default_factory=dict)

    def rows(self) -> Iterator[Layer]:
        """The calls in their order, then what was never called, in the order of definition."""
        number = 0
        for name, shape in self.watch.returned:
            if self._listed(name):
                number += 1
                yield self._row(name, number, shape)
        for name in self.watch.modules:
            if name not in self.watch.seen and self._listed(name):
                yield self._row(name, None, None)

    def _listed(self, name: str) -> bool:
        module, own = self.watch.modules[name], self.counts[name]
        if own.params or own.macs or _elements(module):
            return True
        if isinstance(module, _LISTS):
            return False
        return not module._modules or (self.blocks and bool(name) and name in self.watch.seen)

    def _row(self, name: str, number: int | None, shape: tuple[int, ...] | None) -> Layer:
        own = self.counts[name]
        first = self.first.get(name)
        if number is not None:
            self.first.setdefault(name, number)
        elements = _elements(self.watch.modules[name])
        if first is not None:
            return Layer(number, name, own.kind, shape, 0, first if elements else None)
        shared = own.params < elements
        unread = number is None and name not in self.watch.unused
        note = own.note if shared else "used without a call of its own" if unread and own.params else ""
        return Layer(number, name, own.kind, shape, own.params, None, note)


def _elements(module: nn.Module) -> int:
    return sum(each.numel() for each in module._parameters.values() if each is not None)


def _cells(layer: Layer) -> tuple[str, str, str]:
    shape = "not called"
    if layer.number is not None:
        shape = "" if layer.shape is None else str([-1, *layer.shape[1:]])
    params = f"{layer.params:,}" if layer.first is None else f"as {layer.kind}-{layer.first}"
    return layer.label, shape, params
