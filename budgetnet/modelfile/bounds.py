"""Bounds: what a card's network would take of memory and time is known before any of it is taken."""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

EACH_PIXEL, LEAST, MOST = 512, 2**22, 2**28
"""Numbers in one tensor of one image: so many for each pixel, but so many are always and never more taken."""
MOST_WORK = 2**44
"""Multiplications and the like for one image; one of 4,096 pixels through the largest VGG takes a third."""
_TRIED = (224, 64, 32)
"""Sides tried for a card that names none."""
_PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}
"""Which argument of a matrix product is its first factor."""


_SMALL = 64
"""Kernels, paddings and the like up to here are those of networks as people write them."""
_WINDOWS = frozenset({"padding", "kernel", "stem_kernel", "size", "pool", "stride", "stem_stride"})
_POINTWISE = frozenset(set(nn.modules.activation.__all__) - {"MultiheadAttention"}) | {
    *("Identity", "BatchNorm2d", "GroupNorm", "InstanceNorm2d", "Dropout", "Dropout2d"),
}


class TooMuch(ValueError):
    """A network that asks for more than any image is worth: what, and how much."""


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what operations compute, and refuses an output or a sum that is beyond its bound."""

    def __init__(self, side: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = min(MOST, max(LEAST, EACH_PIXEL * side * side))
        self.work = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(result):
            if tensor.untyped_storage()._cdata in given:
                continue  # a view, or what was changed in place
            if tensor.numel() > self.largest:
                raise TooMuch(
                    f"a tensor of {tensor.numel():,} numbers for one image ({self.largest:,} at most)"
                )
            self.work += tensor.numel() * _each(func, args)
        if self.work > MOST_WORK:
            raise TooMuch(f"more than {MOST_WORK:,} operations for one image")
        return result


def ordinary(arguments: Any, widest: int, side: int | None) -> bool:
    """Whether a network with these arguments grows no map beyond its image's pixels times its widest layer.

    Then it takes what its file's size tells; to run it on the meta device costs torch a second of imports.
    """
    if widest * (side or _TRIED[0]) ** 2 > MOST:
        return False
    return _ordinary(arguments, named="")


def _ordinary(value: Any, *, named: str) -> bool:
    if isinstance(value, partial):
        args = all(_ordinary(item, named="size") for item in value.args)
        return args and _ordinary(value.func, named="") and _ordinary(value.keywords, named="")
    if isinstance(value, Mapping):
        return all(_ordinary(item, named=name) for name, item in value.items())
    if isinstance(value, list | tuple):
        return all(_ordinary(item, named=named) for item in value)
    if isinstance(value, type) and issubclass(value, nn.Module):
        return value.__name__ in _POINTWISE
    return named not in _WINDOWS or not isinstance(value, int | float) or value <= _SMALL


def check_run(planned: nn.Module, channels: int, side: int | None) -> None:
    """Raise TooMuch where one image of `side` pixels would take more memory or time than is sound.

    `planned` is on the meta device, where nothing is computed. Raises what its forward raises for a card's
    own side.
    """
    planned.eval()
    for tried in (side,) if side is not None else _TRIED:
        image = torch.zeros(1, channels, tried, tried, device="meta")
        try:
            with torch.no_grad(), torch.device("meta"), _Counting(tried):
                planned(image)
            return
        except (TooMuch, NotImplementedError, RecursionError):
            raise
        except Exception:
            # Which images it takes is not known; what is too large for all is found at the first that fits.
            if side is not None:
                raise


def _each(func: Any, args: tuple[Any, ...]) -> int:
    """About how many operations one number of an output takes."""
    name = str(func).split(".")[1]
    if name == "convolution":
        return max(1, int(math.prod(args[1].shape[1:])))
    if name in _PRODUCTS:
        return max(1, int(args[_PRODUCTS[name]].shape[-1]))
    if "pool" in name and len(args) > 1 and not name.startswith("adaptive", 1):
        return _window(args[0], args[1])
    return 1


def _window(given: Tensor, kernel: Any) -> int:
    """The numbers under a pooling window, which may be larger than what it is given."""
    sizes = list(kernel) if isinstance(kernel, list | tuple) else [kernel]
    return max(1, min(int(math.prod(sizes)), int(math.prod(given.shape[2:]))))


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
