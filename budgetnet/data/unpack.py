"""Unpacking an archive (zip or tar) that is not trusted: plain files, inside one folder, of bounded size."""

import io
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from budgetnet.data.error import DataError
from budgetnet.data.progress import Progress
from budgetnet.data.tar import Member, decompressed, members

# Far above what any published set holds in one archive, far below what would exhaust a file system.
MEMBERS = 500_000
DIRECTORY = 32 << 20
"""Bytes of a zip archive's table of contents, which Python takes into memory some ten times over."""
DEPTH, LONGEST_NAME = 32, 1000
"""Folders within folders, and characters of a path."""


class _Counted(io.FileIO):
    """A file that reports to a progress line what is read from it."""

    def __init__(self, path: Path, progress: Progress) -> None:
        super().__init__(path)
        self.progress = progress

    def readinto(self, buffer: Any, /) -> int | None:
        count = super().readinto(buffer)
        self.progress.add(count or 0)
        return count


class _Bounded(io.BufferedReader):
    """A zip archive's file, of which no more than `DIRECTORY` bytes are read at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = path.stat().st_size

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            raise OSError("it points outside of itself") from None

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self.size - self.tell())
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > DIRECTORY:
            raise zipfile.BadZipFile(f"its table of contents has more than {DIRECTORY:,} bytes")
        return super().read(wanted)


def unpack(archive: Path, into: Path, *, folder: str, limit: int) -> Path:
    """Unpack the one `folder` that an archive (.zip, else tar) holds to `into`/`folder` and return that path.

    It appears there whole or not at all; where the folder exists already, only files that it lacks are
    added. Raises `DataError`, and leaves nothing outside, for a path outside `folder`, a link, a device, a
    name that comes twice, more than `limit` bytes, or an archive that is cut short.
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


@contextmanager
def _decoding(archive: Path) -> Iterator[None]:
    """Within it, whatever a decoder says of bytes that nobody would write is one sentence."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        # Decoders raise OSErrors of their own without a number; those with one are of the disk.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        told = f"{error}"[:200] or type(error).__name__
        raise DataError(
            f"{archive.name} is cut short or damaged ({' '.join(ascii(told)[1:-1].split())}): delete it and "
            "fetch it again"
        ) from None


def _extract(archive: Path, aside: Path, folder: str, limit: int) -> None:
    total, size = 0, archive.stat().st_size
    with (
        _decoding(archive),
        Progress(f"unpacking {archive.name}", size) as progress,
        io.BufferedReader(_Counted(archive, progress), 1 << 18) as counted,
    ):
        for number, member in enumerate(members(decompressed(counted))):
            total += member.size
            _admit(archive, _suspect(member, folder), number, total, limit)
            _place(
                archive, member.content, aside / member.name, member.size, is_folder=member.kind == "folder"
            )


def _extract_zip(archive: Path, aside: Path, folder: str, limit: int) -> None:
    total = 0
    with _decoding(archive), _Bounded(archive) as file, zipfile.ZipFile(file) as packed:
        listed = packed.infolist()
        size = sum(member.file_size for member in listed)
        with Progress(f"unpacking {archive.name}", size) as progress:
            for number, member in enumerate(listed):
                total += member.file_size
                _admit(archive, _suspect_in_zip(member, folder), number, total, limit)
                path = aside / member.filename
                if member.is_dir():
                    _place(archive, io.BytesIO(), path, 0, is_folder=True)
                else:
                    with packed.open(member) as content:
                        _place(archive, content, path, member.file_size, is_folder=False)
                progress.add(member.file_size)


def _admit(archive: Path, wrong: str, number: int, total: int, limit: int) -> None:
    """Refuse an archive for what is wrong with a member, for too many of them, or for too many bytes."""
    if wrong or number >= MEMBERS:
        wrong = wrong or f"more than {MEMBERS:,} files"
        raise DataError(f"{archive.name} was not unpacked, for it holds {wrong}: fetch it from its publisher")
    if total > limit:
        raise DataError(f"{archive.name} was not unpacked, for it would take more than {limit:,} bytes")


def _suspect(member: Member, folder: str) -> str:
    """Return what makes a member of a tar archive unfit to unpack, or nothing."""
    if member.kind == "link":
        return f"a link ({member.name!r:.80})"
    if member.kind not in ("file", "folder"):
        return f"something that is neither file nor folder ({member.name!r:.80})"
    return _misplaced(member.name, folder, is_folder=member.kind == "folder")


def _suspect_in_zip(member: zipfile.ZipInfo, folder: str) -> str:
    """Return what makes a member of a zip archive unfit to unpack, or nothing."""
    # As it stands there: Python cuts it at a zero, and lets an extra field replace it.
    name = member.orig_filename
    kind = stat.S_IFMT(member.external_attr >> 16)
    if stat.S_ISLNK(kind):
        return f"a link ({name!r:.80})"
    if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        return f"something that is neither file nor folder ({name!r:.80})"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"a file in a compression that is not read ({name!r:.80})"
    wrong = _misplaced(name, folder, is_folder=member.is_dir())
    if not wrong and member.filename != name:
        return f"a file of two names ({name!r:.80} and {member.filename!r:.80})"
    return wrong


def _misplaced(name: str, folder: str, *, is_folder: bool) -> str:
    """Return how a path leaves the folder, or why it is none to write to, or nothing."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        return f"a path outside its folder ({name!r:.80})"
    if path.parts and path.parts[0] != folder:
        return f"{name!r:.80} outside the folder {folder}"
    if not is_folder and (len(path.parts) < 2 or name.endswith("/")):
        return f"a file in the place of a folder ({name!r:.80})"
    if len(name) > LONGEST_NAME or len(path.parts) > DEPTH or any(_long(part) for part in path.parts):
        return f"a name that is too long ({name!r:.80})"
    if not name.isprintable():
        return f"a name that cannot be shown ({name!r:.80})"
    return ""


def _long(part: str) -> bool:
    return len(part.encode("utf-8", "surrogateescape")) > 255


def _place(archive: Path, content: IO[bytes], path: Path, size: int, *, is_folder: bool) -> None:
    """Write one member that passed the checks, with the permissions that new files have here."""
    shown = f"{path.name[:80]!r}"
    try:
        if is_folder:
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # Exclusively: nothing that an archive wrote is written again.
        with path.open("xb") as file:
            left = size
            while left and (block := content.read(min(left, 1 << 20))):
                file.write(block)
                left -= len(block)
            if left or content.read(1):
                raise ValueError(f"{shown} should have {size:,} bytes, and has not")
    except (FileExistsError, NotADirectoryError):
        raise DataError(
            f"{archive.name} was not unpacked, for it holds two files of one name ({shown}): fetch it from "
            "its publisher"
        ) from None


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
