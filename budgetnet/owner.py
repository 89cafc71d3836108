"""Owner: a run's folder has one writer at a time; a dead one holds nothing."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".owner"


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Within it this process is the only writer of `folder`.

    The lock is the system's (flock): it ends with the process, however that ends. Raises ValueError, naming
    the process, where another one holds it.
    """
    descriptor = _claimed(folder)
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        os.close(descriptor)


def is_owned(folder: Path) -> bool:
    """Whether a living process writes to `folder`."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _claimed(folder: Path) -> int:
    path = folder / LOCK
    while True:
        try:
            # A link in a folder from elsewhere could lead to any file, which then would be cut to nothing.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ValueError(
                f"the run's folder {folder} cannot be written: {reason}; choose another"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "another"
            os.close(descriptor)
            raise ValueError(
                f"the run in {folder} is being trained by process {holder}; wait for it, or end it first"
            ) from None
        except OSError:
            # A file system without locks: nothing to hold on to.
            return descriptor
        # Whoever held it before may have removed the file between our opening and locking it.
        if _same(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
