"""Fetching one archive from its publisher: resumed when broken, checked, never half there under its name."""

import hashlib
import os
import re
import shutil
import sys
import time
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from budgetnet.data.kinds import Unavailable
from budgetnet.data.progress import Progress
from budgetnet.process import flags, lock
from budgetnet.text import one_line

BLOCK = 1 << 18
SLOWEST, WINDOW = 1000, 4.0
"""Bytes a second that must come at least, looked at every WINDOW times the timeout."""


class _Broken(Exception):
    """An answer that ended before its announced end, or that makes no sense."""


class _Slow(_Broken):
    """An answer that comes too slowly to wait for."""


class _Redirects(HTTPRedirectHandler):
    """Follows a server to http and https alone, and never from https to http."""

    def redirect_request(self, req: Request, *answer: Any) -> Request | None:
        allowed = ("https",) if urlsplit(req.full_url).scheme == "https" else ("http", "https")
        if urlsplit(answer[-1]).scheme not in allowed:
            raise HTTPError(req.full_url, answer[1], f"go to {answer[-1]:.60}", answer[3], answer[0])
        return super().redirect_request(req, *answer)


class _Pace:
    """Whether bytes come at all: a server that drips would keep a run waiting for months."""

    def __init__(self, reached: int, timeout: float) -> None:
        self.window = WINDOW * timeout
        self.begin(reached)

    def begin(self, reached: int) -> None:
        """Look from here on."""
        self.since, self.reached = time.monotonic(), reached

    def look(self, reached: int) -> None:
        """Raise `_Slow` where too few bytes came since it was last looked, a window ago."""
        passed = time.monotonic() - self.since
        if passed >= self.window:
            if reached - self.reached < SLOWEST * passed:
                raise _Slow(f"less than {SLOWEST:,} bytes a second come")
            self.begin(reached)


def download(
    url: str,
    known: str,
    into: Path,
    *,
    limit: int,
    attempts: int = 5,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Fetch the archive at `url` into the folder `into` and return its path there, its digest checked.

    `known` is its MD5, or its SHA-256, in hex.

    What came so far waits in NAME.part and is resumed, in this call up to `attempts` times without anything
    new (with pauses of `pause`, 2 `pause`, 4 `pause` ... seconds), and in the next call. A read gives up
    after `timeout` seconds of silence, and all of it where less than a kB a second comes. At most `limit`
    bytes are taken. Raises `Unavailable` naming the file to fetch by hand.
    """
    name = PurePosixPath(urlsplit(url).path).name
    by_hand = f"fetch {url} yourself and put {name} into {into}"
    made = [folder for folder in (into, *into.parents) if not folder.exists()]
    try:
        into.mkdir(parents=True, exist_ok=True)
        part = into / f"{name}.part"
        with open(part, "ab", opener=_plain) as file:
            _claim(file, part)
            resumed = file.tell() > 0
            _fetch(url, file, by_hand, limit, (attempts, pause, timeout))
            came = digest(part, known)
            if came != known and resumed:
                # What an earlier call left may be of another file, or spoilt: only a fresh copy can tell.
                file.truncate(0)
                _fetch(url, file, by_hand, limit, (attempts, pause, timeout))
                came = digest(part, known)
            if sys.platform == "win32":
                file.close()  # it neither moves nor removes what is open
            if came != known:
                part.unlink()
                raise Unavailable(
                    f"{name} came with the {_kind(known)} {came}, not {known}, and was deleted: try "
                    f"again, or {by_hand}"
                )
            return part.rename(into / name)
    except BaseException as error:
        _tidy(into / f"{name}.part", made)
        if not isinstance(error, OSError) or isinstance(error, Unavailable):
            raise
        raise Unavailable(
            f"{name} cannot be written into {into} ({error.strerror or error}): name another root"
        ) from None


def _tidy(part: Path, made: list[Path]) -> None:
    """Leave no empty file, and none of the folders that were made and are empty, where nothing came."""
    if not made:
        return
    with suppress(OSError):
        if part.exists() and not part.stat().st_size:
            part.unlink()
        for folder in made:
            folder.rmdir()


def _kind(known: str) -> str:
    return "MD5" if len(known) == 32 else "SHA-256"


def digest(path: Path, known: str) -> str:
    """Return the MD5 (hex) of a file, or its SHA-256 where the one `known` is of that kind."""
    sums = hashlib.md5(usedforsecurity=False) if _kind(known) == "MD5" else hashlib.sha256()
    with path.open("rb") as file, Progress(f"checking {path.name}", path.stat().st_size) as progress:
        while block := file.read(1 << 22):
            sums.update(block)
            progress.add(len(block))
    return sums.hexdigest()


def _plain(path: str, wanted: int) -> int:
    """Open what is no link, and no pipe that would be waited for."""
    return os.open(path, wanted | flags("O_NOFOLLOW", "O_NONBLOCK"), 0o666)


def _claim(file: IO[bytes], part: Path) -> None:
    """Keep other processes from writing into the same file until it is closed."""
    try:
        lock(file.fileno())
    except BlockingIOError:
        raise Unavailable(
            f"another process is fetching {part} already: wait for it, then run again"
        ) from None
    except OSError:
        return  # Some network file systems know no locks.


def _fetch(url: str, file: IO[bytes], by_hand: str, limit: int, patience: tuple[int, float, float]) -> None:
    """Bring `file` up to the whole of what lies at `url`, however often the connection breaks."""
    attempts, pause, timeout = patience
    best, failures, first = file.seek(0, 2), 0, True
    pace = _Pace(best, timeout)
    while True:
        try:
            pace.look(max(best, file.seek(0, 2)))
            return _continue(url, file, limit, timeout, pace)
        except Unavailable:
            raise
        except HTTPError as error:
            reason = f"the server says {error.code} {error.reason}"
            hopeless = error.code < 500 and error.code not in (408, 425, 429)
        except URLError as error:
            reason = str(getattr(error.reason, "strerror", None) or error.reason)
            # Without a network or a server at the very start, waiting only keeps the user from knowing.
            hopeless = first and not isinstance(error.reason, TimeoutError)
        except (_Broken, HTTPException, OSError, ValueError, OverflowError) as error:
            # The last two come of addresses that a server sends on to, and that are none.
            reason, hopeless = str(error) or type(error).__name__, isinstance(error, _Slow)
        first = False
        reached = file.seek(0, 2)
        failures = 0 if reached > best else failures + 1
        best = max(best, reached)
        if hopeless or failures >= attempts:
            reason = one_line(reason)
            kept = f" ({reached:,} bytes are kept and will be continued)" if reached else ""
            raise Unavailable(
                f"{url} cannot be fetched, {reason}{kept}: run again later, or {by_hand}"
            ) from None
        time.sleep(pause * 2 ** max(0, failures - 1))


def _continue(url: str, file: IO[bytes], limit: int, timeout: float, pace: _Pace) -> None:
    """Ask for what is missing and append it; raises `_Broken` when less comes than was announced."""
    have = file.seek(0, 2)
    headers = {"User-Agent": "budgetnet", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        answer: HTTPResponse = build_opener(_Redirects).open(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        if error.code != 416 or not have:
            raise
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range") or "")
        if total and int(total[1]) == have:
            return
        file.truncate(0)
        raise _Broken("what was kept is longer than what is offered") from None
    with answer:
        if answer.status == 206:
            start = re.match(rf"bytes {have}-\d+/", answer.headers.get("Content-Range") or "")
            if not start:
                raise _Broken("the server sends another part than was asked for")
        else:
            file.truncate(have := 0)
            pace.begin(0)
        announced = answer.headers.get("Content-Length")
        total_size = have + int(announced) if announced and re.fullmatch("[0-9]{1,24}", announced) else None
        _room(file, have, total_size, limit)
        with Progress(
            f"fetching {PurePosixPath(urlsplit(url).path).name}", total_size, done=have
        ) as progress:
            while block := answer.read1(BLOCK):
                if progress.done + len(block) > limit:
                    raise Unavailable(
                        f"{url} sends more than the {limit:,} bytes that it should: fetch it by hand and look"
                    )
                _write(file, block)
                progress.add(len(block))
                pace.look(progress.done)
        if total_size is not None and progress.done < total_size:
            raise _Broken(f"the connection broke after {progress.done:,} of {total_size:,} bytes")


def _room(file: IO[bytes], have: int, total: int | None, limit: int) -> None:
    """Refuse what is too large, for its publisher or for the disk."""
    if total is None:
        return
    if total > limit:
        raise Unavailable(
            f"{Path(file.name).stem} should take at most {limit:,} bytes, but the server offers {total:,}"
        )
    free = shutil.disk_usage(Path(file.name).parent).free
    if total - have > free:
        raise Unavailable(
            f"{Path(file.name).stem} takes {total - have:,} more bytes, but {Path(file.name).parent} has "
            f"{free:,} free: make room, or name another root"
        )


def _write(file: IO[bytes], block: bytes) -> None:
    """Write a block; a full disk is the user's to mend, not a broken connection."""
    try:
        file.write(block)
        file.flush()
    except OSError as error:
        raise Unavailable(
            f"{file.name} cannot be written ({error.strerror}): make room, or name another root"
        ) from None
