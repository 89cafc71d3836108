"""Counts a network: what each of its modules costs, read off the module itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ParamSpec

from torch import Tensor, nn

from budgetnet.budget.eight import HEAD, int8_size
from budgetnet.budget.filed import flat, forms, head, size
from budgetnet.budget.fit import watched
from budgetnet.budget.ledger import Ledger, Row, Stored
from budgetnet.budget.meta import build_on_meta
from budgetnet.budget.modules import bare, walk
from budgetnet.budget.notes import redundant, straight_in_sequence, uneven, wasted
from budgetnet.budget.watch import Seen, Watch
from budgetnet.values import one_of

Arguments = ParamSpec("Arguments")


def ledger(
    model: nn.Module,
    resolution: int | tuple[int, int] | None = None,
    *,
    channels: int | None = None,
    stored: Stored | None = None,
) -> Ledger:
    """What `model` costs, module by module; with a resolution in pixels also output shapes, MACs and
    activation bytes.

    Parameters are the unique elements of `model.parameters()`, each attributed to its first owner. MACs are
    half the operations that torch's FlopCounterMode sees in one evaluation of one image (1, channels,
    resolution, resolution) on a meta copy: the model is left as it was and nothing is computed. Without
    `channels` those of the first Conv2d are tried, then 3, then 1. With `stored="int8"` bytes are those of a
    file whose weights have eight bits, and activations take a byte each. Raises `DoesNotFit` when the image
    does not fit, ValueError for lazy modules.

        print(ledger(torchvision.models.resnet18(), resolution=224))
    """
    if stored is not None:
        one_of("stored", stored, ("int8",))
    model = bare(model)
    walked = walk(model)
    watch, resolved = (None, None) if resolution is None else watched(model, resolution, channels)
    notes = _notes(walked.modules, walked.aliases, watch)
    filed = forms(model)
    owners: dict[int, str] = {}
    rows = []
    for name, module in walked.modules.items():
        seen = None if watch is None else watch.seen.get(name, Seen())
        weight = int8_size(module, filed[name]) if stored else sum(map(size, filed[name].values()))
        rows.append(_row(name, module, owners, seen, notes[name], weight))
    peak = None if watch is None else watch.lives.peak(int8=stored is not None)
    return Ledger(tuple(rows), resolved, HEAD if stored else head(flat(filed)), peak, stored)


def macs(model: nn.Module, resolution: int | tuple[int, int], *, channels: int | None = None) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image; see `ledger`."""
    watch, _ = watched(model, resolution, channels)
    return sum(seen.macs for seen in watch.seen.values())


def count(make: Callable[Arguments, nn.Module], /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
    """The unique parameters of what `make(*args, **kwargs)` builds, with nothing allocated and no random
    number drawn.

        count(torch.nn.Conv2d, 3, 64, kernel_size=3)  # 1792
    """
    model = build_on_meta(make, args, kwargs, limits={})
    walk(model)  # refuses lazy modules, whose count is not known yet
    return sum(parameter.numel() for parameter in model.parameters())


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
