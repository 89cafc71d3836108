"""Capacity: how many runs go at once on a device, and with how many threads each."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from budgetnet.budget import ledger
from budgetnet.data import free_memory
from budgetnet.plan import Plan
from budgetnet.sweep.cluster import Cluster
from budgetnet.trainer import Trainer

Together: TypeAlias = int | Literal["auto"] | Cluster
"""How many runs go at once in processes here, or where they are tasks."""

MOST = 8
"""Runs at once on a GPU, where nobody asks for a number: more have little left to fill."""
PROCESS = 600 * 2**20
"""Bytes of a worker beside its training: the interpreter and torch; on CUDA about as much again there."""
FREE = 0.8
"""The part of the free memory that is given away."""


@dataclass(frozen=True)
class Capacity:
    """`count` runs at once, each with `threads` threads of the CPU. `apart`: in processes of their own.

    `threads` follows from what was asked and from the threads that torch has here, never from the memory,
    which only makes fewer go at once: bits depend on threads. `on` is where they are tasks instead.
    """

    count: int
    threads: int
    apart: bool
    on: Cluster | None = None

    def __str__(self) -> str:
        threads = "a thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.count} at a time, each with {threads}"


def capacity(asked: Together, trainer: Trainer, plans: Sequence[Plan], runs: int, images: int) -> Capacity:
    """How many of `runs` runs of these plans go at once; `images` are the bytes of their data.

    "auto" shares out torch's threads on a CPU, a run for each, and on a GPU takes up to 8 at once, both as
    far as the memory that is free is estimated to suffice. Raises ValueError for what is no number of runs.
    """
    if isinstance(asked, Cluster):
        if trainer.out is None:
            raise ValueError("runs on a cluster are written to a folder that all of it reaches: give an out")
        return Capacity(1, asked.threads, True, asked)
    whole = isinstance(asked, int) and not isinstance(asked, bool) and asked > 0
    if asked != "auto" and not whole:
        raise ValueError(f"together should be 'auto' or a whole number of 1 or more, not {asked!r}")
    threads = torch.get_num_threads()
    if trainer.out is None:
        if asked not in ("auto", 1):
            raise ValueError(
                "runs that are trained together are written to folders: give the Trainer an out, such as "
                "out='runs'"
            )
        return Capacity(1, threads, False)
    if sys.platform == "win32":
        if asked not in ("auto", 1):
            raise ValueError(f"together should be 1 on Windows, where runs go one by one, not {asked}")
        return Capacity(1, threads, False)
    on_cuda = trainer.device.type == "cuda"
    count = min(runs, MOST if on_cuda else threads) if asked == "auto" else asked
    if count == 1:
        return Capacity(1, threads, False)
    each = max(1, threads // count)
    if asked != "auto":
        return Capacity(min(asked, runs), each, True)
    need = max(_need(plan) for plan in plans) + (images if on_cuda else 0)
    free = torch.cuda.mem_get_info(trainer.device)[0] if on_cuda else free_memory()
    return Capacity(max(1, min(count, int(FREE * free / need))), each, True)


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Within it torch has so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _need(plan: Plan) -> int:
    """About the bytes that a training takes: a process, weights and their kin, and a batch of activations."""
    model, recipe = plan.model(), plan.recipe
    batches = {(phase.last_resolution, phase.batch_size or recipe.batch_size) for phase in recipe.phases}
    activations = max((ledger(model, size).activation_bytes or 0) * batch for size, batch in batches)
    # Weights, their gradient, two moments, the average and two kept states; activations, their gradient.
    return PROCESS + 7 * ledger(model).bytes + 2 * activations
