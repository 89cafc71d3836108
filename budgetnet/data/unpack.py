"""Unpacking a tar archive that is not trusted: only plain files, inside one folder, of bounded size."""

import io
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

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
    """Unpack the one `folder` that a tar archive holds to `into`/`folder` and return that path.

    It appears there whole or not at all; where the folder exists already, only files that it lacks are
    added. Raises `DataError`, and leaves nothing outside, for a path outside `folder`, a link, a device,
    more than `limit` bytes, or an archive that is cut short.
    """
    try:
        with tempfile.TemporaryDirectory(dir=into, prefix=f".{folder}-") as aside:
            _extract(archive, Path(aside), folder, limit)
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
                wrong = _suspect(member, folder)
                total += member.size
                if wrong or number >= MEMBERS:
                    wrong = wrong or f"more than {MEMBERS:,} files"
                    raise DataError(
                        f"{archive.name} was not unpacked, for it holds {wrong}: fetch it from its publisher"
                    )
                if total > limit:
                    raise DataError(
                        f"{archive.name} was not unpacked, for it would take more than {limit:,} bytes"
                    )
                _place(packed, member, aside)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(
            f"{archive.name} is cut short or damaged ({error}): delete it and fetch it again"
        ) from None


def _suspect(member: tarfile.TarInfo, folder: str) -> str:
    """Return what makes a member unfit to unpack, or nothing."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        return f"a path outside its folder ({member.name!r})"
    if member.issym() or member.islnk():
        return f"a link ({member.name!r})"
    if not (member.isfile() or member.isdir()):
        return f"something that is neither file nor folder ({member.name!r})"
    if path.parts and path.parts[0] != folder:
        return f"{member.name!r} outside the folder {folder}"
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
    path.parent.mkdir(parents=True, exist_ok=True)
    content = packed.extractfile(member)
    assert content is not None
    with content, path.open("wb") as file:
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
