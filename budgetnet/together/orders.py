"""Orders: what signals ask of the parent of several runs."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from budgetnet.trainer import heeding


class Orders:
    """What signals ask for: a stop, and after a second SIGINT an end at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.urgent = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it the signals that ask for an end are noted, in the main thread."""
        with heeding(self._ask):
            yield

    def _ask(self, number: int) -> None:
        if self.number is not None and number == signal.SIGINT:
            self.urgent = True
            raise KeyboardInterrupt
        self.number = number

    def obey(self) -> None:
        """Go on as whoever sent the signal expects."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number is not None:
            raise SystemExit(128 + self.number)
