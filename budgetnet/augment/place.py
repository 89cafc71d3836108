"""Steps that depend on which images they are given and when, and are told so for each batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

_MASK = 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class Place:
    """Where in a training a batch is: `rows` int64 (B,), its images' positions in the training split.

    `passes` int64 (B,) counts the passes over the split before the one that shows the image now (the epochs,
    where an epoch is one pass). `seed` is one number for the whole training. All are on the CPU.
    """

    rows: Tensor
    passes: Tensor
    seed: int


@runtime_checkable
class Placed(Protocol):
    """A step that wants to know the place of each batch. Any object with this one method is one.

    It is asked by the Trainer for training views, and answers an ordinary step for that batch alone; nothing
    is stored, so that any batch can be made again. Whoever else calls `view` (a preview, a test) knows of no
    place, so that the object should be an ordinary step as well, for such calls.
    """

    def placed(self, place: Place) -> Any:
        """The step that acts on the batch at this place."""
        ...


def at_place(steps: Sequence[Any], place: Place) -> tuple[Any, ...]:
    """The steps as they act on the batch at this place."""
    return tuple(step.placed(place) if isinstance(step, Placed) else step for step in steps)


def coins(rows: Tensor, seed: int) -> Tensor:
    """0 or 1 for each of the int64 `rows` (B,), by murmur3's finalizer of row and seed."""
    state = (rows ^ seed) & _MASK
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = ((state ^ (state >> shift)) * factor) & _MASK
    # The seed once more: rows that differ in it alone would otherwise only change places.
    state = ((state ^ (state >> 16) ^ (seed >> 7)) * 0x9E3779B1) & _MASK
    return (state >> 31) & 1
