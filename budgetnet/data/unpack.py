"""Unpacking an archive (zip or tar) whose digest is right: plain files, in one folder, of bounded size."""

import errno
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from budgetnet.data.kinds import DataError
from budgetnet.data.progress import Progress

# Far above what any published set holds in one archive, far below what would exhaust a file system.
MEMBERS = 500_000
LINK, OTHER = "a link", "something that is neither file nor folder"


@dataclass(frozen=True)
class _Member:
    """A member of an archive: `kind` is "file", "folder", LINK or OTHER."""

    name: str
    kind: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, into: Path, *, folder: str, limit: int) -> Path:
    """Unpack the one `folder` that an archive (.zip, else tar) holds to `into`/`folder` and return that path.

    It appears there whole or not at all; where the folder exists already, only files that it lacks are
    added. Raises `DataError`, and leaves nothing outside, for a path outside `folder`, a link, a device, a
    name that comes twice, more than `limit` bytes, or an archive that is cut short.
    """
    try:
        with tempfile.TemporaryDirectory(dir=into, prefix=f".{folder}-") as aside:
            _extract(archive, Path(aside), folder, limit)
            if not (Path(aside) / folder).is_dir():
                raise DataError(
                    f"{archive.name} should hold the folder {folder}, but found none: fetch it again"
                )
            _move(Path(aside) / folder, into / folder)
    except OSError as error:
        raise DataError(
            f"{archive.name} cannot be unpacked into {into} ({error.strerror or error}): name another root"
        ) from None
    return into / folder


def _extract(archive: Path, aside: Path, folder: str, limit: int) -> None:
    total = 0
    with (
        _decoding(archive),
        archive.open("rb") as file,
        Progress(f"unpacking {archive.name}", archive.stat().st_size) as progress,
    ):
        members = _of_zip(file) if archive.suffix == ".zip" else _of_tar(file)
        for number, member in enumerate(members):
            total += member.size
            wrong = f"more than {MEMBERS:,} files" if number >= MEMBERS else _wrong(member, folder)
            if wrong:
                raise DataError(
                    f"{archive.name} was not unpacked, for it holds {wrong}: fetch it from its publisher"
                )
            if total > limit:
                raise DataError(
                    f"{archive.name} was not unpacked, for it would take more than {limit:,} bytes"
                )
            _write(member, aside / member.name, archive, lambda: progress.reach(file.tell()))


def _of_tar(file: IO[bytes]) -> Iterator[_Member]:
    with tarfile.open(fileobj=file) as archive:
        for member in archive:
            kind = "file" if member.isreg() else "folder" if member.isdir() else OTHER
            kind = LINK if member.issym() or member.islnk() else kind
            content = partial(archive.extractfile, member)
            yield _Member(member.name, kind, member.size, cast(Callable[[], IO[bytes]], content))


def _of_zip(file: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            kind = "folder" if member.is_dir() else "file"
            kind = kind if stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR) else OTHER
            kind = LINK if stat.S_ISLNK(mode) else kind
            yield _Member(member.filename, kind, member.file_size, partial(archive.open, member))


def _wrong(member: _Member, folder: str) -> str:
    """What makes a member unfit to unpack, or nothing."""
    path, shown = PurePosixPath(member.name), f"{member.name!r:.80}"
    if member.kind in (LINK, OTHER):
        return f"{member.kind} ({shown})"
    if path.parts[:1] != (folder,) or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        return f"{shown} outside the folder {folder}"
    is_root = path == PurePosixPath(folder)
    return f"a file in the place of a folder ({shown})" if is_root and member.kind == "file" else ""


def _write(member: _Member, path: Path, archive: Path, reach: Callable[[], None]) -> None:
    """Write one member, with the permissions that new files have here."""
    try:
        if member.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # Exclusively: nothing that an archive wrote is written again.
        with path.open("xb") as file, member.open() as content:
            while block := content.read(1 << 20):
                file.write(block)
                reach()
    except (FileExistsError, NotADirectoryError):
        raise DataError(
            f"{archive.name} was not unpacked, for it holds two files of one name ({path.name[:80]!r}): "
            "fetch it from its publisher"
        ) from None


@contextmanager
def _decoding(archive: Path) -> Iterator[None]:
    """Within it, whatever a decoder says of damaged bytes is one sentence."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        # Decoders raise OSErrors of their own without a number, or seek to where no file goes.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        told = " ".join(ascii(f"{error}"[:200] or type(error).__name__)[1:-1].split())
        raise DataError(
            f"{archive.name} is cut short or damaged ({told}): delete it and fetch it again"
        ) from None


def _move(unpacked: Path, folder: Path) -> None:
    """Move the unpacked folder to its place, or the files that are missing there."""
    if not folder.exists():
        unpacked.rename(folder)
        return
    for path in sorted(unpacked.rglob("*")):
        there = folder / path.relative_to(unpacked)
        if path.is_file() and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, there)
