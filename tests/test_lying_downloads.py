"""Servers on 127.0.0.1 that break or lie, more than 40 ways: one sentence each, and the next try works.

Each is asked with a lie for every request; then once more, told the truth. Nothing may lie under the
archive's name that is not the archive, and no server may keep anybody waiting.
"""

import gzip
import hashlib
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPMessage, parse_headers
from pathlib import Path
from typing import Any

import pytest

from budgetnet.data import DataError
from budgetnet.data.download import download

BODY = random.Random(0).randbytes(30_000)
LIMIT = 100_000
Answer = Callable[[socket.socket, "Asked"], None]


class Asked:
    """A request: its path, and where its Range begins, 0 without one."""

    def __init__(self, path: str, headers: HTTPMessage, port: int) -> None:
        self.path, self.port = path, port
        found = re.fullmatch(r"bytes=(\d+)-", headers.get("Range") or "")
        self.start = int(found[1]) if found else 0


class Liar:
    """A server that gives the same answer to every request, or, with none, tells the truth."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.asked: list[Asked] = []
        self.over = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                path = lines.readline().decode("latin-1").split(" ")[1]
                asked = Asked(path, parse_headers(lines), self.port)
                self.asked.append(asked)
                (self.answer or honest)(connection, asked)
            except (OSError, IndexError):
                return


def honest(to: socket.socket, asked: Asked) -> None:
    if asked.start >= len(BODY):
        to.sendall(head(416, **{"Content-Range": f"bytes */{len(BODY)}"}))
        return
    rest = BODY[asked.start :]
    span = {"Content-Range": f"bytes {asked.start}-{len(BODY) - 1}/{len(BODY)}"} if asked.start else {}
    to.sendall(head(206 if span else 200, **span, **{"Content-Length": len(rest)}) + rest)


def head(status: int | str = 200, **headers: Any) -> bytes:
    lines = [f"HTTP/1.1 {status} OK", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def sends(*parts: bytes) -> Answer:
    return lambda to, asked: to.sendall(b"".join(parts))


def length(count: int | str, body: bytes = BODY, **headers: Any) -> Answer:
    return sends(head(200, **{"Content-Length": count}, **headers), body)


def part(span: str, body: bytes = BODY, status: int = 206) -> Answer:
    """Breaks off at first, and continues with a lie."""

    def answer(to: socket.socket, asked: Asked) -> None:
        if not asked.start:
            to.sendall(head(200, **{"Content-Length": len(BODY)}) + BODY[:1000])
        else:
            to.sendall(head(status, **{"Content-Range": span, "Content-Length": len(body)}) + body)

    return answer


def sent_on(place: str, status: int = 302) -> Answer:
    return lambda to, asked: to.sendall(
        head(status, Location=place.replace("PORT", str(asked.port)), **{"Content-Length": 0})
    )


def further(to: socket.socket, asked: Asked) -> None:
    to.sendall(head(302, Location=f"{asked.path}x", **{"Content-Length": 0}))


def dripping(before: bytes, drop: bytes) -> Answer:
    def answer(to: socket.socket, asked: Asked) -> None:
        to.sendall(before)
        for _ in range(200):
            to.sendall(drop)
            time.sleep(0.05)

    return answer


def silent(before: bytes = b"") -> Answer:
    def answer(to: socket.socket, asked: Asked) -> None:
        to.sendall(before)
        time.sleep(2)

    return answer


def endless(before: bytes, block: bytes) -> Answer:
    def answer(to: socket.socket, asked: Asked) -> None:
        to.sendall(before)
        while True:
            to.sendall(block)

    return answer


def one_more(to: socket.socket, asked: Asked) -> None:
    """A byte with each request, so that there always is something new."""
    start = asked.start
    span = {"Content-Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"}
    rest = {"Content-Length": len(BODY) - start}
    time.sleep(0.05)
    to.sendall(head(206 if start else 200, **(span if start else {}), **rest) + BODY[start : start + 1])


CHUNKED = {"Transfer-Encoding": "chunked"}
OTHER = BODY[::-1]
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>" * 20
broken, wrong, other = "cannot be fetched", "came with the MD5", "sends another part than was asked for"
LIES: dict[str, tuple[Answer, str]] = {
    "a body that is cut": (length(len(BODY), BODY[:-1]), "the connection broke after 29,999 of 30,000 bytes"),
    "a body that is not there": (length(len(BODY), b""), broken),
    "a body that is longer than stated": (length(10_000), wrong),
    "a length of nothing": (length(0), wrong),
    "a length below nothing": (length(-5, OTHER), wrong),
    "a length of words": (length("many", OTHER), wrong),
    "a length of other digits": (length("\u00b2\u00b3", OTHER), wrong),
    "a length of 5,000 digits": (length("9" * 5000, OTHER), wrong),
    "a length above the limit": (length(10**7), "should take at most 100,000 bytes, but the server offers"),
    "a length above all disks": (length(10**17), "the server offers 100,000,000,000,000,000"),
    "two lengths": (sends(head(200, **{"Content-Length": "10\r\nContent-Length: 30000"}), BODY), wrong),
    "no length and a body that is cut": (sends(head(200), BODY[:-100]), wrong),
    "a body without end": (endless(head(200), bytes(50_000)), "sends more than the 100,000 bytes"),
    "parts without end": (
        endless(head(200, **CHUNKED), b"c350\r\n" + bytes(50_000) + b"\r\n"),
        "sends more than the 100,000 bytes",
    ),
    "parts that are cut": (sends(head(200, **CHUNKED), b"7530\r\n", BODY[:999]), broken),
    "a part of no size": (sends(head(200, **CHUNKED), b"many\r\n", BODY), broken),
    "a part of a size below nothing": (sends(head(200, **CHUNKED), b"-5\r\n", BODY), broken),
    "a part of a size without end": (sends(head(200, **CHUNKED), b"f" * 70_000), broken),
    "another file": (length(len(BODY), OTHER), wrong),
    "another file of another length": (length(5, b"other"), wrong),
    "a page": (length(len(PAGE), PAGE, **{"Content-Type": "text/html"}), wrong),
    "nothing at all": (length(0, b""), wrong),
    "no content": (sends(head(204)), wrong),
    "packed unasked": (
        length(len(packed := gzip.compress(BODY)), packed, **{"Content-Encoding": "gzip"}),
        wrong,
    ),
    "said to be packed": (length(len(BODY), OTHER, **{"Content-Encoding": "gzip"}), wrong),
    "another part than was asked for": (part("bytes 999-29999/30000"), other),
    "a part of no place": (part(""), other),
    "a part of words": (part("bytes all"), other),
    "a part of a part": (part("bytes 1000-1001/30000", b"xy"), "MD5"),
    "the rest of another file": (part("bytes 1000-29999/30000", OTHER[1000:]), wrong + "|connection broke"),
    "the whole instead of the rest, cut": (part("", BODY[:5], 200), wrong),
    "a part unasked": (sends(head(206, **{"Content-Range": "bytes 5-9/30000"}), BODY), other),
    "beyond the end, always": (sends(head(416, **{"Content-Range": "bytes */7"})), broken),
    "beyond the end, of what": (part("bytes */1000", b"", 416), wrong + "|MD5"),
    "beyond the end, somewhere else": (part("bytes */7", b"", 416), broken),
    **{
        f"the answer {status}": (sends(head(status, **{"Retry-After": 10**9}), b"later"), f"says {status}")
        for status in (400, 401, 403, 404, 407, 408, 410, 425, 429, 451, 500, 502, 503, 504, 599)
    },
    "an answer that steers the terminal": (
        sends(b"HTTP/1.1 404 \x1b[2J\x1b]0;owned\x07 \x9b2J\r\n\r\n"),
        r"\\x1b\[2J",
    ),
    "an answer of many letters": (sends(b"HTTP/1.1 404 " + b"a" * 60_000 + b"\r\n\r\n"), "says 404 aaa"),
    "an answer of no number": (sends(b"HTTP/1.1 fine\r\n\r\n", BODY), broken),
    "an answer of another protocol": (sends(b"SSH-2.0-OpenSSH_9.6\r\n"), broken),
    "an answer of noise": (sends(random.Random(3).randbytes(5000)), broken),
    "an answer of TLS": (sends(b"\x15\x03\x01\x00\x02\x02\x46"), broken),
    "no answer": (sends(), broken),
    "half an answer": (sends(b"HTTP/1.1 200 OK\r\nContent-Le"), broken + "|MD5"),
    "a thousand headers": (sends(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000, b"\r\n"), "more than 100"),
    "a header of a megabyte": (sends(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 10**6, b"\r\n\r\n", BODY), broken),
    "headers without end": (endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 500), broken),
    "sent on to itself": (sent_on("http://127.0.0.1:PORT/pub/set.tar.gz"), "infinite loop"),
    "sent on and on": (further, "infinite loop"),
    **{
        f"sent on to {place}": (sent_on(place), broken)
        for place in (
            *("file:///etc/passwd", "ftp://127.0.0.1/a", "data:,x", "jar:file:///etc", "gopher://127.0.0.1/"),
            *("http://[", "http://127.0.0.1:99999/", "http://127.0.0.1:0/", "http:///", "//", "javascript:x"),
            *("http://127.0.0.1:port/", "http://\u00e9..\u00e9/", "http://a b/", "FILE:/etc/passwd"),
        )
    },
    "sent on to nowhere": (sends(head(302)), "says 302"),
    "a drip": (dripping(head(200, **{"Content-Length": len(BODY)}), b"x"), "less than 1,000 bytes a second"),
    "a drip of parts": (dripping(head(200, **CHUNKED), b"1\r\nx\r\n"), "less than 1,000 bytes a second"),
    "a byte with each request": (one_more, "less than 1,000 bytes a second"),
    "silence": (silent(), "timed out"),
    "silence after the headers": (silent(head(200, **{"Content-Length": len(BODY)})), "timed out"),
    "silence in the middle": (silent(head(200, **{"Content-Length": len(BODY)}) + BODY[:99]), "timed out"),
    "silence in the headers": (silent(b"HTTP/1.1 200 OK\r\nContent-"), "timed out"),
}  # fmt: skip


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Liar]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("BUDGETNET_OFFLINE", raising=False)
    server = Liar()
    yield server
    server.listening.close()


def fetched(liar: Liar, root: Path, url: str | None = None, timeout: float = 30.0) -> Path:
    url = url or f"http://127.0.0.1:{liar.port}/pub/set.tar.gz"
    md5 = hashlib.md5(BODY).hexdigest()
    return download(url, md5, root, limit=LIMIT, attempts=2, pause=0.0, timeout=timeout)


def trouble(liar: Liar, root: Path, answer: Answer, expected: str) -> str:
    """What went wrong as a server lied, or nothing."""
    liar.answer, wrong, told = answer, [], "fetched"
    try:
        # Silence is waited for; whatever else may take as long as a busy machine does.
        fetched(liar, root, timeout=0.15 if re.search("less than|timed out", expected) else 5.0)
    except DataError as error:
        told = str(error)
    except Exception as error:
        told = f"a traceback, {error!r}"
    if not re.search(expected, told) or told.startswith("a traceback"):
        wrong.append(f"told {told:.300}")
    if not told.isprintable() or len(told) > 700:
        wrong.append(f"told in no plain sentence: {told!r:.300}")
    left = {path.name: path.stat().st_size for path in root.iterdir()}
    if not set(left) <= {"set.tar.gz.part"} or sum(left.values()) > LIMIT:
        wrong.append(f"left {left}")
    liar.answer = None
    try:
        found = fetched(liar, root)
        if found.read_bytes() != BODY or [path.name for path in root.iterdir()] != ["set.tar.gz"]:
            wrong.append("the next try brings something else")
    except Exception as error:
        wrong.append(f"the next try fails: {error}")
    return "; ".join(wrong)


def failed(liar: Liar, tmp_path: Path, every: int) -> dict[str, str]:
    found = {}
    for number, (name, (answer, expected)) in enumerate(LIES.items()):
        if number % every == 0:
            root = tmp_path / str(number)
            root.mkdir()
            if told := trouble(liar, root, answer, expected):
                found[name] = told
    return found


def test_a_server_that_lies_or_breaks_is_told_of_in_one_sentence(liar: Liar, tmp_path: Path) -> None:
    wrong = failed(liar, tmp_path, 6)
    assert not wrong, "\n".join(f"{name}: {told}" for name, told in wrong.items())


@pytest.mark.slow
def test_of_eighty_servers_that_lie_or_break_each_is_told_of(liar: Liar, tmp_path: Path) -> None:
    assert len(LIES) >= 80
    wrong = failed(liar, tmp_path, 1)
    assert not wrong, "\n".join(f"{name}: {told}" for name, told in wrong.items())


def test_a_server_without_tls_is_not_waited_for(liar: Liar, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be fetched, .*: run again later"):
        fetched(liar, tmp_path, f"https://127.0.0.1:{liar.port}/set.tar.gz", timeout=0.15)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_lies_in_the_place_of_a_part_is_not_written_through(
    liar: Liar, tmp_path: Path, kind: str
) -> None:
    root, victim = tmp_path / "root", tmp_path / "victim"
    root.mkdir()
    victim.write_text("precious")
    part = root / "set.tar.gz.part"
    if kind == "link":
        part.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(part)
    else:
        part.mkdir()
    with pytest.raises(DataError, match=r"set\.tar\.gz cannot be written into"):
        fetched(liar, root)
    assert victim.read_text() == "precious"
