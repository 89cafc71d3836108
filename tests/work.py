"""Work and clocks that are the same on every machine: calls are counted where seconds would be the load's."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def calls(act: Callable[[], object]) -> int:
    """The function calls, Python's and C's, that `act` makes in this thread, whoever else computes."""
    count = 0

    def seen(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count


class Leap:
    """A clock that goes on as ever, and leaps where a test says so: by more than any machine takes."""

    def __init__(self) -> None:
        self.ahead, self._real = 0.0, time.perf_counter

    def __call__(self) -> float:
        return self._real() + self.ahead

    def by(self, seconds: float) -> None:
        self.ahead += seconds


@contextmanager
def leaping() -> Iterator[Leap]:
    """Everything that is timed in here is timed by a clock that leaps."""
    leap = Leap()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.perf_counter", leap)
        patch.setattr("budgetnet.engine.speed.perf_counter", leap)
        yield leap
