"""Stop: an ordinary end of a training at the next step: its time is up, or somebody asked."""

import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from budgetnet.text import TIMES, quantity

_LONGEST = 1e9
_FOREMOST = (signal.SIGINT, signal.SIGTERM)
ENDING = (*_FOREMOST, signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1)
"""The signals that ask for an end: the user's, the system's, and those of batch systems."""


def seconds(written: float | str | None, name: str = "max_time") -> float | None:
    """A time as seconds: 90, "90", "90s", "1h30m". Raises ValueError for what is no time above 0."""
    if written is None:
        return None
    pieces = re.split("(?<=[hms])", written.strip().lower()) if isinstance(written, str) else [written]
    numbers = [quantity(piece, TIMES) for piece in pieces if piece != ""]
    total = sum(math.nan if number is None else float(number) for number in numbers)
    if not 0 < total <= _LONGEST:
        text = f"{written!r:.40}" if isinstance(written, str | float) else "a number beyond all years"
        raise ValueError(f"{name} should be seconds or a time such as '11h30m', not {text}")
    return total


class Stopped(Exception):
    """The training ended between two steps; `status` is "paused" or "stopped"."""

    def __init__(self, status: str, signal_number: int | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.signal_number = signal_number


@dataclass(frozen=True)
class Handler:
    """A handler of signals that is budgetnet's own."""

    ask: Callable[[int], None]

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.ask(number)


@contextmanager
def heeding(ask: Callable[[int], None]) -> Iterator[None]:
    """Within it the signals that ask for an end call `ask` with their number.

    Signals reach the main thread only; elsewhere nothing changes. What was switched off by whoever started
    us stays so (nohup, a shell's background job), and so does a handler of the user's own for a batch
    system's signal. Nor does a pipe that nobody reads any more end the process meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGPIPE)}
    taken = {
        number: handler
        for number, handler in before.items()
        if handler is signal.SIG_DFL
        or isinstance(handler, Handler)
        # One that Python did not install could not be put back.
        or (number in _FOREMOST and handler not in (signal.SIG_IGN, None))
    }
    try:
        for number in taken:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else Handler(ask))
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)


class Stop:
    """When a training is to end: `max_time` seconds after now, once a signal has come, or once `deserted`."""

    def __init__(self, max_time: float | None, deserted: Callable[[], bool] = lambda: False) -> None:
        self._until = math.inf if max_time is None else time.monotonic() + max_time
        self._deserted = deserted
        self._signal: int | None = None

    def due(self) -> Stopped | None:
        """Why the training is to end now, if it is."""
        if self._signal is not None:
            return Stopped("stopped", self._signal)
        if self._deserted():
            return Stopped("stopped", signal.SIGTERM)
        return Stopped("paused") if time.monotonic() >= self._until else None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it a signal asks for a stop at the next step; a second SIGINT acts at once."""
        with heeding(self._ask):
            yield

    def _ask(self, number: int) -> None:
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number
