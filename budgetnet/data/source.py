"""Where a published set lies: found under the root, or unpacked from its archive, which is fetched first."""

import errno
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast
from urllib.parse import urlsplit

from budgetnet.data.download import digest, download
from budgetnet.data.kinds import DataError, Unavailable
from budgetnet.data.progress import Progress


@dataclass(frozen=True)
class Source:
    """A published archive: its URL, its MD5 (hex), the folder inside, and at most how many bytes that takes.

    Raises `DataError` for a URL that is not http or https.
    """

    url: str
    md5: str
    folder: str
    limit: int

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https") or not self.archive:
            raise DataError(f"a source is the http or https URL of an archive, but found {self.url!r}")

    @property
    def archive(self) -> str:
        """The name of the archive's file."""
        return PurePosixPath(urlsplit(self.url).path).name


def data_root(root: str | os.PathLike[str] | None) -> Path:
    """Return the folder that holds data: `root`, else the environment's BUDGETNET_DATA, else ./data."""
    if root is None:
        root = os.environ.get("BUDGETNET_DATA") or "data"
    return Path(root).expanduser()


def published(root: Path, source: Source, needed: Sequence[str], *, fetch: bool) -> Path:
    """Return the publisher's folder with the files needed in it: `root`/`source.folder`, or `root` itself.

    When it is not there, it is unpacked from the archive in `root`, which is fetched first if `fetch`
    allows and the environment's BUDGETNET_OFFLINE is not set. What was fetched is removed when unpacked; an
    archive put there by hand stays. Raises `DataError`, an `Unavailable` when nothing may be fetched.
    """
    folder, missing = _look(root, source, needed)
    if not missing:
        return folder
    if root.name == source.folder:
        root = root.parent
    archive = root / source.archive
    by_hand = os.path.isfile(archive)
    if by_hand:
        _check(archive, source)
    elif fetch and not os.environ.get("BUDGETNET_OFFLINE"):
        download(source.url, source.md5, root, limit=source.limit)
    else:
        raise Unavailable(
            f"{folder / missing[0]} is not there: name the folder that holds {source.folder}, as root or in "
            f"BUDGETNET_DATA, or put {source.archive} from {source.url} into {root}, or allow the download"
        )
    unpack(archive, root, folder=source.folder, limit=source.limit)
    if not by_hand:
        archive.unlink()
    folder, missing = _look(root, source, needed)
    if missing:
        raise DataError(
            f"{source.archive} was unpacked into {folder}, but holds no {missing[0]}: look at {source.url}"
        )
    return folder


def _check(archive: Path, source: Source) -> None:
    """Refuse an archive put there by hand that is not the one published."""
    try:
        md5 = digest(archive, source.md5)
    except OSError as error:
        raise DataError(f"{archive} cannot be read ({error.strerror}): fetch {source.url} again") from None
    if md5 != source.md5:
        raise DataError(
            f"{archive} has the MD5 {md5}, but its publisher states {source.md5}: fetch {source.url} again"
        )


def _look(root: Path, source: Source, needed: Sequence[str]) -> tuple[Path, list[str]]:
    """Return the publisher's folder under or at `root`, and which of the files needed are not in it."""
    folders = [root / source.folder, root]
    if root.name == source.folder:
        folders.reverse()
    gaps = [(folder, [name for name in needed if not os.path.isfile(folder / name)]) for folder in folders]
    return min(gaps, key=lambda gap: len(gap[1]))


def cache_folder(cache: str | os.PathLike[str] | None) -> Path:
    """Return the folder for decoded photos and facts about images: `cache`, else the user's own."""
    if cache is not None:
        return Path(cache).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "budgetnet"


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
    if path.parts[:1] != (folder,) or ".." in path.parts or set("\\:\0") & set(member.name):
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
        reason = " ".join(ascii(f"{error}"[:200] or type(error).__name__)[1:-1].split())
        raise DataError(
            f"{archive.name} is cut short or damaged ({reason}): delete it and fetch it again"
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
