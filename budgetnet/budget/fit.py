"""Tries a model at a resolution without computing anything: names the module whose input does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import nn

from budgetnet.budget.amounts import pixels
from budgetnet.budget.meta import copy_to, first_line, needs_values, without_dynamo
from budgetnet.budget.modules import bare, called, walk
from budgetnet.budget.watch import Watch
from budgetnet.randomness import own_randomness
from budgetnet.values import whole

_LARGEST_TRIED = 512
_Passes = dict[tuple[object, ...], tuple[nn.Module, Watch]]
_passes: ContextVar[_Passes | None] = ContextVar("passes", default=None)


@contextmanager
def traced_once() -> Iterator[None]:
    """Within it each model is traced once at each size, and should stay as it is: others take that trace.

    Only traces on the meta device are kept. Inside of another one it is that one.
    """
    token = _passes.set({} if _passes.get() is None else _passes.get())
    try:
        yield
    finally:
        _passes.reset(token)


class DoesNotFit(ValueError):
    """A model's input does not fit at a resolution.

    `module` is the dotted name of the innermost module that failed ("" for the model itself), `given` the
    shape of its input, `resolution` (height, width), and `smallest` the smallest resolution that fits, None
    if none up to 512 does.
    """

    def __init__(
        self,
        message: str,
        module: str = "",
        given: tuple[int, ...] | None = None,
        resolution: tuple[int, int] | None = None,
        smallest: int | None = None,
    ) -> None:
        super().__init__(message)
        self.module, self.given, self.resolution, self.smallest = module, given, resolution, smallest


def check_fit(model: nn.Module, resolution: int | tuple[int, int], *, channels: int | None = None) -> None:
    """Raises `DoesNotFit` if `model` cannot take one image (1, channels, resolution, resolution) in
    evaluation mode.

    Nothing is computed or allocated and the model is left as it was: a copy on the meta device is tried; only
    a model whose forward reads values is tried on a CPU copy. Without `channels` those of the first Conv2d
    are tried, then 3, then 1.

        check_fit(torchvision.models.vgg11(), resolution=16)
        # DoesNotFit: features.20 (MaxPool2d) does not fit at 16x16: it is given (1, 512, 1, 1) and its map
        # collapses below 1x1 (...); the smallest resolution that fits is 32
    """
    watched(model, resolution, channels)


def watched(
    model: nn.Module, resolution: int | tuple[int, int], channels: int | None
) -> tuple[Watch, tuple[int, int]]:
    """A watched forward pass over a copy of `model`, and its (height, width); raises as `check_fit` does."""
    model = bare(model)
    walk(model)  # refuses lazy modules, which cannot be copied
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ValueError(
            f"{type(model).__name__} holds TorchScript, whose modules cannot be watched: count the module "
            "that it was made from"
        )
    height, width = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    size = pixels(height), pixels(width)
    if channels is not None:
        whole("channels", channels)
    kinds = _kinds(model) if channels is None else (channels,)
    missed = []
    with own_randomness(), without_dynamo():
        for attempts in (_Attempts(model, kind, dtype) for kind in kinds for dtype in _dtypes(model)):
            watch, error = attempts.at(size)
            if error is None:
                return watch, size
            missed.append((attempts, watch, error))
        # Whichever kind of image fits at another resolution is meant; else the likeliest one.
        tried = ((watch, error, _smallest(attempts)) for attempts, watch, error in missed)
        meant = next((each for each in tried if each[2] is not None), None)
    watch, error, smallest = meant or (*missed[0][1:], None)
    raise _refusal(watch, error, size, smallest) from error


def _kinds(model: nn.Module) -> tuple[int, ...]:
    """The channels that images of `model` may have, the likeliest first: its first Conv2d's; 3; 1."""
    first = [module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)][:1]
    return tuple(dict.fromkeys([*first, 3, 1]))


def _dtypes(model: nn.Module) -> tuple[torch.dtype, ...]:
    """What images may be, the likeliest first: of the type that most weights have; of each other's."""
    sizes: Counter[torch.dtype] = Counter()
    for tensor in model.parameters():
        if tensor.is_floating_point():
            sizes[tensor.dtype] += tensor.numel()
    return tuple(dtype for dtype, _ in sizes.most_common()) or (torch.float32,)


@dataclass
class _Attempts:
    """Tries a model at resolutions: on meta while its forward reads no values, else on a CPU copy."""

    model: nn.Module
    channels: int
    dtype: torch.dtype
    device: str = "meta"

    def at(self, size: tuple[int, int]) -> tuple[Watch, Exception | None]:
        """The watched pass over a fresh copy, and what its forward raised."""
        passes, key = _passes.get(), (id(self.model), self.channels, self.dtype, size)
        if passes is not None and key in passes:
            return passes[key][1], None
        watch = Watch(copy_to(self.model, self.device))
        try:
            watch.run(torch.zeros(1, self.channels, *size, dtype=self.dtype, device=self.device))
        except Exception as error:
            if self.device == "meta" and needs_values(error):
                self._refuse_without_values(error)
                self.device = "cpu"
                return self.at(size)
            return watch, error
        if passes is not None and self.device == "meta":
            passes[key] = self.model, watch  # with the model, whose id nothing else gets meanwhile
        return watch, None

    def _refuse_without_values(self, error: Exception) -> None:
        if any(tensor.is_meta for tensor in (*self.model.parameters(), *self.model.buffers())):
            raise ValueError(
                f"{type(self.model).__name__} reads values in its forward ({first_line(error)}), so it "
                "cannot be tried before it is built: build it yourself and hand the model over instead"
            ) from error


def _smallest(attempts: _Attempts) -> int | None:
    """The smallest resolution that fits, in steps, then exactly; misses windows narrower than a step."""

    def fits(side: int) -> bool:
        return attempts.at((side, side))[1] is None

    below = 0
    for tried in (*range(4, 128, 4), *range(128, _LARGEST_TRIED + 1, 16)):
        if fits(tried):
            return next((exact for exact in range(below + 1, tried) if fits(exact)), tried)
        below = tried
    return None


def _refusal(watch: Watch, error: Exception, size: tuple[int, int], smallest: int | None) -> DoesNotFit:
    name, given = (watch.calls[-1].name, watch.calls[-1].given) if watch.calls else ("", None)
    module = watch.modules[name]
    way_out = (
        f"no resolution up to {_LARGEST_TRIED} fits, so look at the channels"
        if smallest is None
        else f"the smallest resolution that fits is {smallest}"
    )
    return DoesNotFit(
        f"{called(name, module)} does not fit at {size[0]}x{size[1]}: it is given {given or 'no tensor'} and "
        f"{_reason(module, given, error)}; {way_out}",
        name,
        given,
        size,
        smallest,
    )


def _reason(module: nn.Module, given: tuple[int, ...] | None, error: Exception) -> str:
    original = first_line(error)
    if given is None:
        return original
    if isinstance(module, nn.Linear) and given[-1] != module.in_features:
        return f"takes {module.in_features:,} features ({original})"
    if isinstance(module, nn.Conv2d) and len(given) == 4 and given[1] != module.in_channels:
        return f"takes {module.in_channels:,} channels ({original})"
    if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)) and len(given) == 4:
        return f"its map collapses below 1x1 ({original})"
    return original
