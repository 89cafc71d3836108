"""Unpacking an archive (zip or tar) that is not trusted: plain files, inside one folder, of bounded size."""

import io
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from budgetnet.data.error import DataError
from budgetnet.data.progress import Progress

# Far above what any published set holds in one archive, far below what would exhaust a file system.
MEMBERS = 2_000_000


class _Counted(io.RawIOBase):
    """A file that reports to a progress line what is read from it."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.file = path.open("rb")
        self.progress = progress

    def read(self, size: int = -1) -> bytes:
        block = self.file.read(size)
        self.progress.add(len(block))
        return block

    def close(self) -> None:
        self.file.close()
        super().close()


def unpack(archive: Path, into: Path, *, folder: str, limit: int) -> Path:
    """Unpack the one `folder` that an archive (.zip, else tar) holds to `into`/`folder` and return that path.

    It appears there whole or not at all; where the folder exists already, only files that it lacks are
    added. Raises `DataError`, and leaves nothing outside, for a path outside `folder`, a link, a device,
    more than `limit` bytes, or an archive that is cut short.
    """
    try:
        with tempfile.TemporaryDirectory(dir=into, prefix=f".{folder}-") as aside:
            extract = _extract_zip if archive.suffix == ".zip" else _extract
            extract(archive, Path(aside), folder, limit)
            if not (Path(aside) / folder).is_dir():
                raise DataError(
                    f"{archive.name} should hold the folder {folder}, but found none: fetch it again"
                )
            _settle(Path(aside) / folder, into / folder)
    except OSError as error:
        raise DataError(
            f"{archive.name} cannot be unpacked into {into} ({error.strerror or error}): name another root"
        ) from None
    return into / folder


def _extract(archive: Path, aside: Path, folder: str, limit: int) -> None:
    total, size = 0, archive.stat().st_size
    try:
        with (
            Progress(f"unpacking {archive.name}", size) as progress,
            _Counted(archive, progress) as counted,
            tarfile.open(fileobj=counted, mode="r|*") as packed,
        ):
            for number, member in enumerate(packed):
                total += member.size
                _admit(archive, _suspect(member, folder), number, total, limit)
                _place(packed, member, aside)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(
            f"{archive.name} is cut short or damaged ({error}): delete it and fetch it again"
        ) from None


def _extract_zip(archive: Path, aside: Path, folder: str, limit: int) -> None:
    total = 0
    try:
        with zipfile.ZipFile(archive) as packed:
            members = packed.infolist()
            size = sum(member.file_size for member in members)
            with Progress(f"unpacking {archive.name}", size) as progress:
                for number, member in enumerate(members):
                    total += member.file_size
                    _admit(archive, _suspect_in_zip(member, folder), number, total, limit)
                    if member.is_dir():
                        (aside / member.filename).mkdir(parents=True, exist_ok=True)
                    else:
                        with packed.open(member) as content:
                            _write(content, aside / member.filename)
                    progress.add(member.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{archive.name} is cut short or damaged ({error}): delete it and fetch it again"
        ) from None


def _admit(archive: Path, wrong: str, number: int, total: int, limit: int) -> None:
    """Refuse an archive for what is wrong with a member, for too many of them, or for too many bytes."""
    if wrong or number >= MEMBERS:
        wrong = wrong or f"more than {MEMBERS:,} files"
        raise DataError(f"{archive.name} was not unpacked, for it holds {wrong}: fetch it from its publisher")
    if total > limit:
        raise DataError(f"{archive.name} was not unpacked, for it would take more than {limit:,} bytes")


def _suspect(member: tarfile.TarInfo, folder: str) -> str:
    """Return what makes a member of a tar archive unfit to unpack, or nothing."""
    if member.issym() or member.islnk():
        return f"a link ({member.name!r})"
    if not (member.isfile() or member.isdir()):
        return f"something that is neither file nor folder ({member.name!r})"
    return _misplaced(member.name, folder)


def _suspect_in_zip(member: zipfile.ZipInfo, folder: str) -> str:
    """Return what makes a member of a zip archive unfit to unpack, or nothing."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if stat.S_ISLNK(kind):
        return f"a link ({member.filename!r})"
    if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        return f"something that is neither file nor folder ({member.filename!r})"
    return _misplaced(member.filename, folder)


def _misplaced(name: str, folder: str) -> str:
    """Return how a path leaves the folder, or nothing."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        return f"a path outside its folder ({name!r})"
    if path.parts and path.parts[0] != folder:
        return f"{name!r} outside the folder {folder}"
    return ""


def _place(packed: tarfile.TarFile, member: tarfile.TarInfo, aside: Path) -> None:
    """Write one member that passed the checks, with the permissions that new files have here."""
    # Python's own opinion as a second lock, which 3.11.0 to 3.11.3 do not have.
    if hasattr(tarfile, "data_filter"):
        tarfile.data_filter(member, str(aside))
    path = aside / PurePosixPath(member.name)
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    content = packed.extractfile(member)
    assert content is not None
    with content:
        _write(content, path)


def _write(content: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def _settle(unpacked: Path, folder: Path) -> None:
    """Move the unpacked folder to its place, or the files that are missing there."""
    if not folder.exists():
        unpacked.rename(folder)
        return
    for path in sorted(unpacked.rglob("*")):
        there = folder / path.relative_to(unpacked)
        if path.is_file() and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, there)
