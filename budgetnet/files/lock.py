"""Lock: a run's folder has one writer at a time, and is free once that process has ended."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from budgetnet.files.disk import reason, write_all
from budgetnet.process import flags, lock

LOCK = ".owner"
_TRIES = 5
_BETWEEN = 0.02
"""How often, and how many seconds apart, a taken lock is tried: `is_locked` takes it for a moment too."""
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""The errors of file systems that have no locks."""
_SAFE = flags("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make this process the only writer of `folder` within the context.

    The lock is the system's (flock, where there is one) and ends with the process, however that ends. Raises
    ValueError, naming the process, where another one has it.
    """
    folder = folder.absolute()
    descriptor = _acquired(folder)
    try:
        yield
    finally:
        _release(descriptor, folder / LOCK)


def is_locked(folder: Path) -> bool:
    """Whether a living process writes to `folder`; where the file system has no locks, whether one may."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | _SAFE)
    except OSError:
        return False
    try:
        # Shared, so that two processes that look at the same time do not see each other's look.
        lock(descriptor, shared=True)
    except BlockingIOError:
        return True
    except OSError as error:
        return error.errno in _WITHOUT_LOCKS
    finally:
        os.close(descriptor)
    return False


def _acquired(folder: Path) -> int:
    path = folder / LOCK
    try:
        while True:
            # A link in a folder from elsewhere could lead to any file, which then would be cut to nothing.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _SAFE, 0o644)
            ours = False
            try:
                ours = _locked(descriptor)
                if not ours:
                    holder = os.read(descriptor, 32).decode(errors="replace").strip()
                    raise ValueError(
                        f"the run in {folder} is being trained by process {holder or '(unknown)'}; wait for "
                        "it, or end it first"
                    )
                # Whoever held it before may have removed the file between our opening and locking it.
                if _same(descriptor, path):
                    # A disk that does not take even this process's number is full.
                    os.ftruncate(descriptor, 0)
                    write_all(descriptor, str(os.getpid()).encode())
                    return descriptor
            except BaseException:
                # Without the lock the file may be another process's.
                if ours:
                    _release(descriptor, path)
                else:
                    os.close(descriptor)
                raise
            os.close(descriptor)
    except OSError as error:
        why = reason(error)
        raise ValueError(f"the run's folder {folder} cannot be written: {why}; choose another") from None


def _locked(descriptor: int) -> bool:
    """Whether the lock is ours now. Raises OSError."""
    for at in range(_TRIES):
        try:
            lock(descriptor)
            return True
        except OSError as error:
            if error.errno in _WITHOUT_LOCKS:
                # Nothing to hold on to.
                return True
            if at + 1 == _TRIES and not isinstance(error, BlockingIOError):
                raise
        time.sleep(_BETWEEN)
    return False


def _release(descriptor: int, path: Path) -> None:
    # The name goes while the lock is held: whoever opened it meanwhile sees that it is gone.
    for _ in range(2):
        with suppress(OSError):
            if _same(descriptor, path):
                path.unlink()
            break
    os.close(descriptor)


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
