"""Where a published set lies: found under the root, unpacked from its archive, or fetched first."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from budgetnet.data.download import digest, download
from budgetnet.data.kinds import DataError, Unavailable
from budgetnet.data.unpack import unpack


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
        md5 = digest(archive)
    except OSError as error:
        raise DataError(f"{archive} cannot be read ({error.strerror}): fetch {source.url} again") from None
    if md5 != source.md5:
        raise DataError(
            f"{archive} has the MD5 {md5}, but its publisher states {source.md5}: fetch {source.url} again"
        )


def _look(root: Path, source: Source, needed: Sequence[str]) -> tuple[Path, list[str]]:
    """Return the publisher's folder under or at `root`, and which of the files needed are not in it."""
    places = [root / source.folder, root]
    if root.name == source.folder:
        places.reverse()
    gaps = [(place, [name for name in needed if not os.path.isfile(place / name)]) for place in places]
    return min(gaps, key=lambda gap: len(gap[1]))


def cache_folder(cache: str | os.PathLike[str] | None) -> Path:
    """Return where decoded photos and what was found out about images are kept.

    It is `cache`, else the user's folder for such things.
    """
    if cache is not None:
        return Path(cache).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "budgetnet"
