"""Latency: how long one image takes on this machine, measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from budgetnet.budget.fit import watched
from budgetnet.budget.meta import copy_to
from budgetnet.randomness import own_randomness

_WARM, _TIMES, _ENOUGH, _SECONDS = 3, 20, 5, 2.0
"""Runs before any counts, and runs that count; fewer, but so many, where they take longer than that."""
_measures: ContextVar[bool] = ContextVar("measures", default=True)


@contextmanager
def untimed() -> Iterator[None]:
    """Within it no budget measures: a model that was quick enough where it was built is not refused again."""
    token = _measures.set(False)
    try:
        yield
    finally:
        _measures.reset(token)


def measures() -> bool:
    """Whether budgets measure here."""
    return _measures.get()


def latency(model: nn.Module, resolution: int) -> float:
    """Seconds that a copy of `model` takes for one image, on one thread of the CPU: the median of 20 runs.

    Raises ValueError for a model on the meta device, and what `check_fit` raises.
    """
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            f"{type(model).__name__} lies on the meta device, and latency is measured: build it for real"
        )
    watch, _ = watched(model, resolution, None)
    with own_randomness():
        return seconds(lambda: copy_to(model, "cpu"), torch.rand_like(watch.image, device="cpu"))


def seconds(make: Callable[[], nn.Module], image: Tensor) -> float:
    """The same of what `make` makes and an image (1, C, H, W)."""
    with _one_thread(), torch.inference_mode():
        model = make()
        for _ in range(_WARM):
            model(image)
        taken: list[float] = []
        while len(taken) < _TIMES and (len(taken) < _ENOUGH or sum(taken) < _SECONDS):
            began = time.perf_counter()
            model(image)
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
