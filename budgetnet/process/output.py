"""Output: standard output and error that never fail, whatever becomes of who reads them."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


class Steadfast(io.TextIOBase):
    """A stream that drops what its file does not take, and escapes what its encoding does not have.

    The reader of a pipe may be gone, a disk full, a terminal closed, an encoding ASCII: whoever prints while
    hours of work are in memory does not want to hear of it as an exception. `failed` is the first one.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.failed: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        with suppress(AttributeError):
            return (self.stream.encoding if self.stream is not None else None) or "utf-8"
        return "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """What the stream does with characters that its encoding does not have."""
        with suppress(AttributeError):
            return self.stream.errors if self.stream is not None else None
        return None

    def fileno(self) -> int:
        """The number of the stream's file. Raises OSError where it has none."""
        with suppress(AttributeError):
            if self.stream is not None:
                return self.stream.fileno()
        raise io.UnsupportedOperation("fileno")

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with suppress(OSError, ValueError, AttributeError):
            return self.stream is not None and self.stream.isatty()
        return False

    def writable(self) -> bool:
        """It takes everything."""
        return True

    def write(self, text: str) -> int:
        """Write what can be written, and give the number of all characters."""
        if not isinstance(text, str):
            raise TypeError(f"what is written should be text, not {type(text).__name__}")
        if self.stream is not None:
            # It may be an object of the user's own, which writes elsewhere and fails as it likes.
            try:
                try:
                    self.stream.write(text)
                except UnicodeEncodeError as error:
                    self.stream.write(_fitting(text, error.encoding))
            except Exception as error:
                self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Have what was written shown, if it can be."""
        try:
            if self.stream is not None:
                self.stream.flush()
        except AttributeError:
            pass
        except Exception as error:
            self._drop(error)

    def _drop(self, error: Exception) -> None:
        self.failed = self.failed or error
        if self.stream is not None:
            _discard(self.stream)


def steadfast(stream: TextIO | None) -> TextIO:
    """The stream as one on which writing never fails."""
    return stream if isinstance(stream, Steadfast) else cast(TextIO, Steadfast(stream))


@contextmanager
def steadfast_output() -> Iterator[tuple[Steadfast, Steadfast]]:
    """Within it writing to standard output and error never fails, whoever writes; gives both.

    What somebody else puts in their place meanwhile stays.
    """
    before = sys.stdout, sys.stderr
    streams = Steadfast(before[0]), Steadfast(before[1])
    sys.stdout, sys.stderr = cast(TextIO, streams[0]), cast(TextIO, streams[1])
    try:
        yield streams
    finally:
        for stream in streams:
            stream.flush()
        if cast(object, sys.stdout) is streams[0]:
            sys.stdout = before[0]
        if cast(object, sys.stderr) is streams[1]:
            sys.stderr = before[1]


def fill_closed() -> None:
    """Open the null device wherever standard input, output or error is closed.

    Else the next file that is opened, be it a checkpoint, gets the number that every library prints to.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It takes the lowest number that is free.
            os.open(os.devnull, os.O_RDWR)


def _fitting(text: str, encoding: str) -> str:
    """`text` with each character that the encoding does not have as "\\u4e2d" or the like."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _discard(stream: TextIO) -> None:
    """Empty the buffers of a stream whose file takes nothing.

    The interpreter would try to write them in the end, complain, and exit with 120.
    """
    with suppress(Exception):
        number = stream.fileno()
        inheritable = os.get_inheritable(number)
        own, nowhere = os.dup(number), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, number)
            stream.flush()
        finally:
            os.dup2(own, number, inheritable)
            os.close(own)
            os.close(nowhere)
