"""The arithmetic of a step, counted, and how much of it the machine does at its best."""

import statistics
import time
from collections.abc import Generator, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

SIDE, CUDA_SIDE = 1024, 8192
"""The sides of the matrices whose product is the measure: large enough for the machine's best."""
TRIES, SECONDS = 5, 0.1
"""How often it is measured, and for how long at least."""


def counted_steps(count: int, *, eager: bool) -> Generator[None, None, int | None]:
    """Let so many steps go by, a yield each, and give the multiply-accumulates of one of them.

    They are half the operations that torch's FlopCounterMode sees in the last one: its forward and backward
    passes, those of a teacher and of a second look (SAM) too, and what the optimizer multiplies. None for
    steps that are compiled, into which it cannot look.
    """
    yield from (None for _ in range(count - 1))
    with FlopCounterMode(display=False) if eager else nullcontext() as counter:
        yield
    return None if counter is None else counter.get_total_flops() // 2


def matmul_peaks(device: torch.device) -> Mapping[str, float]:
    """The multiply-accumulates a second of a large product of matrices, in float32 and in bfloat16.

    The median of a few tries, on the device and with the threads of now; on CUDA float32 is as precise as
    torch's settings say.
    """
    return {
        str(dtype).removeprefix("torch."): _peak(device, dtype) for dtype in (torch.float32, torch.bfloat16)
    }


def _peak(device: torch.device, dtype: torch.dtype) -> float:
    side = CUDA_SIDE if device.type == "cuda" else SIDE
    one = torch.full((side, side), 1 / side, device=device, dtype=dtype)
    into = one @ one
    count = max(1, round(SECONDS / _seconds(one, into, 1)))
    return side**3 / statistics.median(_seconds(one, into, count) for _ in range(TRIES))


def _seconds(one: Tensor, into: Tensor, count: int) -> float:
    """The seconds of one of `count` products."""
    begun = now(one.device)
    for _ in range(count):
        torch.mm(one, one, out=into)
    return (now(one.device) - begun) / count


def now(device: torch.device) -> float:
    """The time at which the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
