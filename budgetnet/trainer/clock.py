"""Clock: where the time of training steps goes, part by part, told without waiting for the device."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import torch

GATHER, VIEWS, FORWARD, BACKWARD, OPTIMIZER, AVERAGE = PARTS = (
    *("gather", "views", "forward", "backward", "optimizer", "average"),
)
"""The parts of a step, in their order: the first two are its data."""

EVERY = 8
"""On CUDA one step of so many is timed."""

_Marks = list[tuple[str, torch.cuda.Event]]


class Clock:
    """Adds up the seconds of each part of a step: by the host's clock, or by events on a CUDA device.

    On CUDA every `every`-th step is timed, and the others are taken to be like it: its events are read when
    they are there, so that nothing waits. What lies between two events is the device's time, and its waiting
    for the host. `told` is called with the name of each part as it begins, and "" at a step's end.
    """

    def __init__(self, *, every: int = EVERY, told: Callable[[str], None] | None = None) -> None:
        self.every = every
        self.told = told
        self._spent: defaultdict[str, float] = defaultdict(float)
        self.timed = 0
        self._host, self._part, self._since = True, "", 0.0
        self._marks: _Marks | None = None
        self._waiting: _Marks | None = None

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of each part, over the steps that were timed."""
        self._read()
        # What lies between two steps is no part of any.
        return {part: spent for part, spent in self._spent.items() if part}

    def clear(self) -> None:
        """Forget everything: an epoch begins."""
        self.restore({})

    def capture(self) -> dict[str, Any]:
        """What has been added up so far, as plain values."""
        return {"timed": self.timed, "seconds": self.seconds}

    def restore(self, held: Mapping[str, Any]) -> None:
        """Go on from what `capture` gave; from nothing where that is empty."""
        self._spent = defaultdict(float, held.get("seconds", {}))
        self.timed = int(held.get("timed", 0))
        self._part, self._marks, self._waiting = "", None, None

    def begin(self, step: int, device: torch.device) -> None:
        """A step begins, the one after `step` others of its epoch."""
        self._host, self._part, self._marks = device.type != "cuda", "", None
        if self._host:
            self.timed += 1
            return
        self._read()
        if step % self.every == 0 and self._waiting is None:
            self._marks = []

    def mark(self, part: str) -> None:
        """From here on the time goes to `part`; "" ends the step."""
        if self.told is not None:
            self.told(part)
        if self._host:
            now = perf_counter()
            self._spent[self._part] += now - self._since
            self._part, self._since = part, now
        elif self._marks is not None:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((part, event))

    def end(self) -> None:
        """The step has ended."""
        self.mark("")
        if self._marks is not None:
            self._waiting, self._marks = self._marks, None

    def of(self, steps: int, *parts: str) -> float:
        """The seconds that `steps` steps spent in these parts; the device has been waited for."""
        spent = self.seconds
        return sum(spent.get(part, 0.0) for part in parts) * steps / self.timed if self.timed else 0.0

    def _read(self) -> None:
        """Add up a step's events, where the device has come to them."""
        if self._waiting is None or not self._waiting[-1][1].query():  # type: ignore[no-untyped-call]
            return
        for (part, begun), (_, ended) in zip(self._waiting, self._waiting[1:]):
            self._spent[part] += begun.elapsed_time(ended) / 1000
        self.timed += 1
        self._waiting = None
