"""Orders: what signals ask of the parent of several runs."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Orders:
    """What signals ask for: a stop, and after a second SIGINT an end at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.urgent = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it SIGINT and SIGTERM are noted, in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for number, handler in before.items():
                if handler is not signal.SIG_IGN:
                    signal.signal(number, self._ask)
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and number == signal.SIGINT:
            self.urgent = True
            raise KeyboardInterrupt
        self.number = number

    def obey(self) -> None:
        """Go on as whoever sent the signal expects."""
        if self.number == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        if self.number is not None:
            raise KeyboardInterrupt
