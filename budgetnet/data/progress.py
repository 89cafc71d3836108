"""One line on stderr that says how far a long job on the data has come."""

import os
import shutil
import sys
import time
from typing import TextIO

from budgetnet.process import steadfast
from budgetnet.text import clock, size


class Progress:
    """How far a job has come: one line rewritten on a terminal, else plain lines at most every 10 %.

    No colours and no control codes; silent when there is no stderr. `done` is where the job starts from,
    and plain lines are at least `every` seconds apart.

        with Progress("fetching", total=1_000_000, unit="B") as progress:
            progress.add(65_536)
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        *,
        unit: str = "B",
        done: int = 0,
        stream: TextIO | None = None,
        every: float = 1.0,
    ) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, done
        quiet = stream is None and bool(os.environ.get("BUDGETNET_QUIET"))
        self.stream = steadfast(None if quiet else stream or sys.stderr)
        self.live = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.began, self.first = time.monotonic(), done
        self.shown, self.tenths, self.width, self.every = self.began, self._tenths(), 0, every

    def __enter__(self) -> "Progress":
        self._show(self.line() if self.live else f"{self.what} ...")
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        self._show(self.line(over=True) if kind is None else f"{self.line()}, stopped")
        if self.live:
            print(file=self.stream, flush=True)

    def add(self, amount: int) -> None:
        """Count this much more as done."""
        self.done += amount
        now = time.monotonic()
        if self.live and now - self.shown >= 0.1:
            self.shown = now
            self._show(self.line())
        elif not self.live and self.tenths < self._tenths() < 10 and now - self.shown >= self.every:
            self.shown, self.tenths = now, self._tenths()
            self._show(self.line())

    def reach(self, done: int) -> None:
        """Count so much as done in all, where that is more than was."""
        self.add(max(0, done - self.done))

    def line(self, *, over: bool = False) -> str:
        """Return what is done so far: percent, rate and time left, or the time taken when it is over."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        rate = (self.done - self.first) / seconds
        if over:
            return f"{self.what}: {self._amount(self.done)} in {clock(seconds)}"
        if not self.total:
            return f"{self.what}: {self._amount(self.done)}, {self._amount(rate)}/s"
        left = f", {clock((self.total - self.done) / rate)} left" if rate > 0 else ""
        return f"{self.what}: {100 * self.done // self.total} %, {self._amount(rate)}/s{left}"

    def _tenths(self) -> int:
        return 10 * self.done // self.total if self.total else 0

    def _show(self, text: str) -> None:
        if not self.live:
            print(text, file=self.stream, flush=True)
            return
        text = text[: max(1, shutil.get_terminal_size().columns - 1)]
        self.stream.write("\r" + text.ljust(self.width))
        self.stream.flush()
        self.width = len(text)

    def _amount(self, amount: float) -> str:
        return size(amount) if self.unit == "B" else f"{amount:,.0f} {self.unit}"
