"""System: what only some operating systems have, and what is done where it is missing."""

import errno
import os
import signal
import sys
import threading

try:
    import fcntl
    import resource

    _POSIX = True
except ImportError:  # Windows
    _POSIX = False

_AT_PLACES = hasattr(os, "preadv")
_SOME_CORES = hasattr(os, "sched_getaffinity")
_FAR = 1 << 30
"""The byte of a file that Windows locks: nobody else could read one that holds anything."""
_ASSUMED = 4 << 30
"""Bytes of memory that are taken to be free where the system tells nothing."""
_turn = threading.Lock()


def flags(*names: str) -> int:
    """The flags of `os.open` of these names, as far as there are such, and bytes as they are."""
    return sum(getattr(os, name, 0) for name in (*names, "O_BINARY"))


def signals(*names: str) -> tuple[signal.Signals, ...]:
    """The signals of these names that there are."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


def lock(descriptor: int, *, shared: bool = False) -> None:
    """Take the lock of an open file, which ends with the process, without waiting.

    Raises BlockingIOError where another has it, and OSError where there are no locks.
    """
    if _POSIX:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    elif sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, error.strerror) from None
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def read_at(descriptor: int, memory: memoryview, offset: int) -> int:
    """Fill memory from a place in an open file; gives how many bytes came. Threads may share the file."""
    if _AT_PLACES:
        return os.preadv(descriptor, [memory], offset)
    with _turn:
        os.lseek(descriptor, offset, os.SEEK_SET)
        block = os.read(descriptor, len(memory))
    memory[: len(block)] = block
    return len(block)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if _SOME_CORES else os.cpu_count() or 1


def unused_memory() -> int:
    """Bytes of memory that Windows calls available; elsewhere, but for Linux, half of all there is."""
    if sys.platform == "win32":
        import ctypes

        status = (ctypes.c_ulonglong * 8)()
        # Its length and the load in percent, of four bytes each; then the total, and what is available.
        status[0] = ctypes.sizeof(status)
        return status[2] if ctypes.windll.kernel32.GlobalMemoryStatusEx(status) else _ASSUMED
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return _ASSUMED


def data_limit() -> int | None:
    """Bytes of data that this process may have, None where nobody limits them."""
    if not _POSIX:
        return None
    soft = resource.getrlimit(resource.RLIMIT_DATA)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def peak_memory() -> int:
    """The most bytes of memory that this process has had; 0 where the system does not tell."""
    if not _POSIX:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
