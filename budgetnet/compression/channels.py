"""Channels: which of a network's weights belong to the same channel, seen in one forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from budgetnet.budget import twin

Units = tuple[int, ...]
"""The channel that each position of a dimension belongs to, by its number."""

_MOVES = ("permute", "transpose", "unfold", "im2col", "roll", "flip", "select", "index", "slice", "split")


@dataclass
class Channels:
    """
    The channels of a network: `dims` says for (tensor, dimension) which channel each position is of, `made`
    which tensor's rows make a channel, and `fixed` the channels that cannot be left out alone.

    Channels that are added to one another, as in residual networks, are one.
    """

    dims: dict[tuple[str, int], Units] = field(default_factory=dict)
    made: dict[int, str] = field(default_factory=dict)
    fixed: set[int] = field(default_factory=set)
    parents: list[int] = field(default_factory=list)

    def fresh(self, count: int, maker: str) -> Units:
        """New channels, the rows of the tensor `maker`."""
        start = len(self.parents)
        self.parents.extend(range(start, start + count))
        self.made |= dict.fromkeys(range(start, start + count), maker)
        return tuple(range(start, start + count))

    def root(self, unit: int) -> int:
        """The number by which a channel goes that was found to be one with others."""
        while self.parents[unit] != unit:
            self.parents[unit] = self.parents[self.parents[unit]]
            unit = self.parents[unit]
        return unit

    def join(self, first: Units, second: Units) -> None:
        """Let these channels be one, pair by pair."""
        for a, b in zip(first, second, strict=True):
            self.parents[self.root(a)] = self.root(b)


def channels_of(model: nn.Module, shape: tuple[int, ...]) -> Channels:
    """The channels of `model`, found in a pass of one image (1, C, H, W) on the meta device."""
    copied = twin(model, "meta").eval()
    channels = Channels()
    watch = _Watch(channels, copied.state_dict(keep_vars=True))
    image = torch.empty(shape, device="meta")
    watch.tag(image, channels.fresh(shape[1], ""))
    with torch.no_grad(), watch:
        copied(image)
    return channels


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows channels through the operations of a forward pass."""

    def __init__(self, channels: Channels, state: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.channels = channels
        self.names = {id(tensor): name for name, tensor in reversed(list(state.items()))}
        self.units: dict[int, Units] = {}
        # What was seen stays alive, so that no number of a tensor is given twice.
        self.alive: list[Tensor] = list(state.values())

    def tag(self, tensor: Tensor, units: Units) -> None:
        """Say of which channels the second dimension of an activation is."""
        self.units[id(tensor)] = units
        self.alive.append(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func).split(".")[1].strip("_")
        out = result[0] if isinstance(result, tuple | list) else result
        if isinstance(out, Tensor):
            self.alive.append(out)
            self._follow(name, args, out)
        return result

    def _follow(self, name: str, args: tuple[Any, ...], out: Tensor) -> None:
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if name == "convolution" and id(args[1]) in self.names:
            self._convolution(args, out)
        elif name in ("addmm", "mm"):
            bias, given, weight = args[:3] if name == "addmm" else (None, *args[:2])
            self._linear(bias, given, weight, out)
        elif name in ("t", "detach", "alias") and id(first) in self.names:
            self.names[id(out)] = self.names[id(first)]
        elif "batch_norm" in name and id(first) in self.units:
            self.tag(out, self.units[id(first)])
            for each in args[1:5]:
                self._own(each, 0, self.units[id(first)])
        elif name == "cat" and args[1:] and args[1] == 1:
            parts = [self.units.get(id(each)) for each in args[0]]
            if all(part is not None for part in parts):
                self.tag(out, tuple(unit for part in parts if part is not None for unit in part))
        elif name in ("view", "unsafe_view", "reshape") and id(first) in self.units:
            assert first is not None
            self._viewed(first, out)
        else:
            self._plain(name, args, out)

    def _own(self, tensor: Any, dim: int, units: Units) -> None:
        if isinstance(tensor, Tensor) and id(tensor) in self.names:
            key = self.names[id(tensor)], dim
            if key in self.channels.dims:
                self.channels.join(self.channels.dims[key], units)
            self.channels.dims[key] = units

    def _convolution(self, args: tuple[Any, ...], out: Tensor) -> None:
        given, weight, bias = args[:3]
        units, groups = self.units.get(id(given)), args[8]
        name = self.names[id(weight)]
        if units is not None and groups == len(units) == len(weight):
            made = units  # depthwise: each channel for itself
        else:
            made = self.channels.dims.get((name, 0)) or self.channels.fresh(len(weight), name)
            if groups == 1 and units is not None:
                self._own(weight, 1, units)
            else:
                self.channels.fixed |= {*(units or ()), *made}
        for tensor in (weight, bias):
            self._own(tensor, 0, made)
        self.tag(out, made)

    def _linear(self, bias: Any, given: Tensor, weight: Tensor, out: Tensor) -> None:
        name, units = self.names.get(id(weight)), self.units.get(id(given))
        if name is None or units is None or len(units) != len(weight):
            self.channels.fixed |= set(units or ())
            return
        made = self.channels.dims.get((name, 0)) or self.channels.fresh(weight.shape[1], name)
        self._own(weight, 1, units)
        for tensor in (weight, bias):
            self._own(tensor, 0, made)
        self.tag(out, made)

    def _viewed(self, given: Tensor, out: Tensor) -> None:
        units = self.units[id(given)]
        if out.ndim > 1 and len(out) == len(given) and out.shape[1] == len(units):
            self.tag(out, units)
        elif out.ndim == 2 and len(out) == len(given):
            each = out.shape[1] // len(units)
            self.tag(out, tuple(unit for unit in units for _ in range(each)))
        else:
            self.channels.fixed |= set(units)

    def _plain(self, name: str, args: tuple[Any, ...], out: Tensor) -> None:
        """What computes each channel by itself, from one or several inputs."""
        inputs = [self.units[id(each)] for each in _tensors(args) if id(each) in self.units]
        same = [units for units in inputs if out.ndim > 1 and len(units) == out.shape[1]]
        if len(same) < len(inputs) or any(word in name for word in _MOVES):
            self.channels.fixed |= {unit for units in inputs for unit in units}
            return
        for units in same[1:]:
            self.channels.join(same[0], units)
        if same:
            self.tag(out, same[0])


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
