"""A disk that fails on purpose, and one that remembers what was done to it: every call below a folder.

The calls of the operating system are replaced in `os`, `io` and `fcntl` themselves: nothing of budgetnet is.
"""

import builtins
import errno
import fcntl
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATHS = ("open", "mkdir", "rmdir", "unlink", "remove", "rename", "replace", "stat", "lstat", "listdir")
PATHS += ("scandir", "statvfs", "pathconf")
DESCRIPTORS = ("write", "pwrite", "fsync", "ftruncate", "fstat", "read")
CHANGING = ("open", "mkdir", "rmdir", "unlink", "remove", "rename", "replace", "write", "pwrite", "fsync")
CHANGING += ("ftruncate", "flock")


@dataclass
class Call:
    """One call: its name, the path that it is about, and its other arguments."""

    name: str
    path: str
    arguments: tuple[Any, ...]


Decide = Callable[[Call], "OSError | str | None"]


@dataclass
class Disk:
    """What happens below `folder`: `decide` sees each call first, and may let it fail or write too little."""

    folder: Path
    decide: Decide = lambda call: None
    done: Callable[[Call, Any], None] = lambda call, found: None
    calls: list[Call] = field(default_factory=list)
    paths: dict[int, str] = field(default_factory=dict)

    def _mine(self, path: Any) -> str | None:
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        text = os.path.abspath(os.fsdecode(path))
        root = str(self.folder)
        return text if text == root or text.startswith(root + os.sep) else None

    def _call(
        self, name: str, path: str, real: Callable[..., Any], arguments: tuple[Any, ...], **named: Any
    ) -> Any:
        call = Call(name, path, arguments)
        self.calls.append(call)
        told = self.decide(call)
        if isinstance(told, OSError):
            told.filename = path
            raise told
        if told == "short" and name in ("write", "pwrite"):
            content = bytes(arguments[1])
            arguments = (arguments[0], content[: max(1, len(content) // 2)], *arguments[2:])
            call.arguments = arguments
        found = real(*arguments, **named)
        if name == "open":
            self.paths[found] = path
        self.done(call, found)
        return found

    @contextmanager
    def watched(self) -> Iterator["Disk"]:
        """Within it every call is seen."""
        saved: list[tuple[Any, str, Any]] = []

        def put(owner: Any, name: str, new: Callable[..., Any]) -> None:
            saved.append((owner, name, getattr(owner, name)))
            setattr(owner, name, new)

        def about_path(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def called(*arguments: Any, **named: Any) -> Any:
                mine = self._mine(arguments[0]) if arguments and not named.get("dir_fd") else None
                if mine is None:
                    return real(*arguments, **named)
                return self._call(name, mine, real, arguments, **named)

            return called

        def about_descriptor(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def called(*arguments: Any, **named: Any) -> Any:
                mine = self.paths.get(arguments[0]) if arguments and isinstance(arguments[0], int) else None
                if mine is None:
                    return real(*arguments, **named)
                return self._call(name, mine, real, arguments, **named)

            return called

        close = os.close

        def closed(descriptor: int) -> None:
            self.paths.pop(descriptor, None)
            close(descriptor)

        opened = io.open

        def opening(file: Any, *arguments: Any, **named: Any) -> Any:
            mine = self._mine(file)
            if mine is None:
                return opened(file, *arguments, **named)
            return self._call("io.open", mine, opened, (file, *arguments), **named)

        for name in PATHS:
            put(os, name, about_path(name, getattr(os, name)))
        for name in DESCRIPTORS:
            put(os, name, about_descriptor(name, getattr(os, name)))
        put(os, "close", closed)
        put(io, "open", opening)
        put(builtins, "open", opening)
        put(fcntl, "flock", about_descriptor("flock", fcntl.flock))
        try:
            yield self
        finally:
            for owner, name, real in reversed(saved):
                setattr(owner, name, real)


def failing(number: int, kind: int | str, *, forever: bool = False) -> Decide:
    """Fails the call of this number, from 1, with an errno or a short write; with `forever` all that follow.

    What only looks goes on working on a disk that fails for ever.
    """
    seen = [0]

    def decide(call: Call) -> OSError | str | None:
        seen[0] += 1
        if seen[0] < number or (seen[0] > number and not forever):
            return None
        if forever and call.name not in CHANGING:
            return None
        if isinstance(kind, str):
            return kind
        return OSError(kind, os.strerror(kind))

    return decide


def litter(folder: Path) -> list[str]:
    """Everything below a folder that is there for a moment only: hidden names."""
    found = []
    with suppress(FileNotFoundError):
        found = [str(path.relative_to(folder)) for path in folder.rglob(".*")]
    return sorted(found)


KINDS = {
    "ENOSPC": errno.ENOSPC,
    "EIO": errno.EIO,
    "EDQUOT": errno.EDQUOT,
    "EROFS": errno.EROFS,
    "EACCES": errno.EACCES,
    "EINTR": errno.EINTR,
    "short": "short",
}
