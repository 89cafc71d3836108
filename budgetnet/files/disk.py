"""Disk: files written whole or not at all, numbered folders that last, and places that are refused."""

import errno
import os
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from budgetnet.process import flags

_UNSYNCED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""What file systems answer that have no way to flush a folder."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_PROBE = b"budgetnet looks whether it can write here\n"
_SUFFIX = 8
"""Characters that a run's number may add to its name."""


def regular_size(path: Path) -> int:
    """The bytes of a file. Raises OSError where there is none, and for a pipe or device, which has no end."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "this is no regular file", str(path))
    return status.st_size


def read_whole(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file. Raises OSError, and ValueError for one of more than `most` bytes."""
    size = regular_size(path)
    if most is not None and size > most:
        raise ValueError(f"{path} has {size:,} bytes, and at most {most:,} are read")
    with path.open("rb") as file:
        return file.read(size)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there yet, and flush it to the disk. Raises OSError.

    Its name may still be lost with the power: `flush_folder` makes names last.
    """
    # Exclusively: a link that lies there under this name leads nowhere.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags("O_CLOEXEC"), 0o666)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of `content`, however little the disk takes at a time."""
    rest = memoryview(content)
    while rest:
        written = os.write(descriptor, rest)
        if not written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest = rest[written:]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: aside, flushed to the disk, then renamed, and its folder flushed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    aside.unlink(missing_ok=True)
    try:
        write_new(aside, content)
        os.replace(aside, path)
    except BaseException:
        discard(aside)
        raise
    flush_folder(path.parent)


def check_writable(path: Path) -> None:
    """Refuse a file that `write_whole` could not write now; nothing is left behind. Raises ValueError."""
    try:
        if path.exists():
            regular_size(path)
        aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        discard(aside)
        try:
            write_new(aside, b"")
        finally:
            discard(aside)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise ValueError(f"{path!s:.200} cannot be written ({why}): choose another --out") from None


def append(path: Path, content: bytes) -> None:
    """Write to the end of a file, all or nothing where the disk still obeys. Raises OSError."""
    # A link in a folder from elsewhere could lead to any file.
    safe = flags("O_CLOEXEC", "O_NOFOLLOW")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | safe, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, content)
        except BaseException:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Make what was made, renamed or removed in a folder last, where the file system can. Raises OSError."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | flags("O_CLOEXEC"))
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCED:
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing, so that they last. Raises OSError."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    with suppress(FileExistsError):
        os.mkdir(folder)
    flush_folder(folder.parent)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def discard(path: Path) -> None:
    """Remove a file, or a folder with all in it, if the disk lets us; links are not followed."""
    for _ in range(2):
        # What fails once, interrupted or refused by a server far away, may go a moment later.
        with suppress(OSError):
            _remove(path)
            return


def _remove(path: Path) -> None:
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(path)
        return
    for name in os.listdir(path):
        _remove(path / name)
    os.rmdir(path)


def reason(error: OSError) -> str:
    """Why the disk refused, in words."""
    return error.strerror or str(error) or type(error).__name__


def free_bytes(folder: Path) -> int | None:
    """What the disk of a folder still takes from this user; None where it does not tell."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    # Some file systems, such as those over a network, say nothing but zeros.
    return usage.free if usage.total else None


def check_place(out: str | Path, *names: str) -> Path:
    """Refuse a place where no run's folder can be made and written, and leave nothing behind.

    `names` are those of the folders to be made in `out`. It is tried: a folder with a small file is made in
    `out`, or in the nearest folder above it that is there, and removed. Gives that folder. Raises ValueError.
    """
    folder = Path(out)
    check_names(str(out), *names)
    try:
        there = _nearest(folder.absolute())
        _check_lengths(there, folder.absolute(), names)
        probe = Path(mkdtemp(prefix=".budgetnet-", suffix=".part", dir=there))
        try:
            write_new(probe / "probe", _PROBE)
        finally:
            discard(probe)
    except OSError as error:
        raise unwritable(folder, error) from None
    return there


def check_names(out: str, *names: str) -> None:
    """Refuse an `out` with control characters, such as ends of lines, and what is no folder's name in it."""
    if _CONTROL.search(out):
        raise ValueError(
            f"a run's folder should have a name without control characters, not {out!r:.80}; choose another "
            "with out= (--out)"
        )
    for name in names:
        check_name(name)


def check_name(name: str) -> str:
    """The name, where it can be that of one folder. Raises ValueError."""
    if (
        not isinstance(name, str)
        or "/" in name
        or Path(name).name in ("", "..")
        or Path(name).name != name
        or _CONTROL.search(name)
    ):
        raise ValueError(
            "a run's name should be the name of a folder, without slashes, not "
            f"{name!r:.80}; choose another with name= (--name), without control characters too"
        )
    return name


def unwritable(folder: Path, error: OSError) -> ValueError:
    """The refusal of a folder that the disk does not let us write to."""
    return ValueError(
        f"a run's folder cannot be made or written in {folder!s:.200}: {reason(error)}; choose another with "
        "out= (--out), or mend that one"
    )


def folders_of(out: Path, name: str) -> list[Path]:
    """The folders `out/name-N`, by their number; what has other names is none of them."""
    # Whatever a name has in it, it means nothing but itself.
    pattern = re.compile(re.escape(name) + "-([0-9]{1,18})")
    try:
        matches = [match for entry in os.listdir(out) if (match := pattern.fullmatch(entry))]
    except OSError:
        return []
    matches.sort(key=lambda match: (int(match[1]), match[0]))
    return [out / match[0] for match in matches if (out / match[0]).is_dir()]


def new_folder(out: str | Path, name: str) -> Path:
    """A new folder `out/name-N`, N the first free number; never one that exists already. ValueError."""
    check_names(str(out), name)
    parent, number = Path(out), 1
    try:
        if not parent.is_dir():
            # What is refused leaves none of the folders above it either.
            check_place(out, name)
        make_folder(parent.absolute())
        while True:
            folder = parent / f"{name}-{number}"
            try:
                os.mkdir(folder)
                break
            except FileExistsError:
                number += 1
    except OSError as error:
        raise unwritable(parent, error) from None
    try:
        flush_folder(parent)
    except OSError as error:
        discard(folder)
        raise unwritable(parent, error) from None
    return folder


def _nearest(path: Path) -> Path:
    """The nearest folder at or above `path` that is there. Raises OSError for a file or a broken link."""
    while True:
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            path = path.parent
            continue
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, f"{path} is no folder")
        return path


def _check_lengths(there: Path, wanted: Path, names: tuple[str, ...]) -> None:
    if not hasattr(os, "pathconf"):
        return
    longest, deepest = os.pathconf(there, "PC_NAME_MAX"), os.pathconf(there, "PC_PATH_MAX")
    new_names = [*wanted.relative_to(there).parts, *(f"{name}{'-' * _SUFFIX}" for name in names)]
    whole = os.fsencode(wanted.joinpath(*names))
    # A run's own files and the names that they have while they are written need some room, too.
    if any(len(os.fsencode(part)) > longest for part in new_names) or len(whole) + 100 > deepest:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
