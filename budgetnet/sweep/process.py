"""Process: one worker as its parent sees it: started, told, heard, and ended."""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from budgetnet.process import fill_closed

# What the parent would import, the worker imports too, wherever that lies.
_CODE = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from budgetnet.sweep.worker import main; main()"
)


class Process:
    """A worker's process. `messages` and `output` are what to wait for: what it tells, and what it prints.

    It is none of multiprocessing's: those run the user's own program again, stay in the terminal's group,
    where Ctrl-C reaches them, and put what is shared into /dev/shm, which containers keep small.
    """

    def __init__(self, first: dict[str, Any]) -> None:
        fill_closed()
        self.messages, channel = os.pipe()
        passed = [channel] if first["data"] is None else [channel, first["data"]["memory"]]
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, json.dumps(sys.path), str(channel)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=passed,
                process_group=0,
            )
        except BaseException:
            os.close(self.messages)
            raise
        finally:
            os.close(channel)
        assert self._popen.stdout is not None
        self.output = self._popen.stdout.fileno()
        self.last_words: deque[str] = deque(maxlen=1)
        self._rests = {self.messages: b"", self.output: b""}
        self.send(first)

    def watch(self, selector: selectors.BaseSelector, owner: object) -> None:
        """Have the selector wait for it, and give the owner when it is heard of."""
        for descriptor in self._rests:
            selector.register(descriptor, selectors.EVENT_READ, owner)

    def send(self, message: dict[str, Any]) -> None:
        """Tell it something; a dead one does not hear it, which shows elsewhere."""
        assert self._popen.stdin is not None
        with suppress(OSError):
            self._popen.stdin.write(json.dumps(message).encode() + b"\n")
            self._popen.stdin.flush()

    def lines(self, descriptor: int) -> Iterator[str] | None:
        """The whole lines that came on `messages` or `output`; None at its end."""
        block = os.read(descriptor, 1 << 16)
        if not block:
            return None
        *whole, self._rests[descriptor] = (self._rests[descriptor] + block).split(b"\n")
        return (line.decode(errors="replace") for line in whole)

    def ask_to_stop(self) -> None:
        """End it at a step's end."""
        self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._popen.kill()

    def end(self, patience: float, selector: selectors.BaseSelector) -> int:
        """Let it end by itself, kill it after so many seconds, and give its exit status."""
        for descriptor in self._rests:
            with suppress(KeyError):
                selector.unregister(descriptor)
        with suppress(OSError):
            os.close(self.messages)
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        try:
            return self._popen.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._popen.wait()


def status_words(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"its process ended with status {status}"
    with suppress(ValueError):
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process was ended by signal {-status}"
