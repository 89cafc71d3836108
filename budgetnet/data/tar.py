"""Reading a tar archive as a stream, strictly: the names and contents of plain files, in bounded memory."""

import bz2
import gzip
import io
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

BLOCK = 512
LONGEST = 1 << 16
"""Bytes of a header that extends the next one, such as with a long name."""
CHAIN = 8
"""How many such headers may stand before one member."""
XZ_MEMORY = 128 << 20
"""Bytes that an .xz stream may ask for; `xz -9` asks for half."""

FILES, FOLDERS, LINKS = (b"0", b"\0", b"7"), (b"5",), (b"1", b"2")


class BadTar(Exception):
    """A stream that is no tar archive, is cut short, or says what cannot be."""


@dataclass(frozen=True)
class Member:
    """What a header names: `name`, "file", "folder", "link" or "other", and its content of `size` bytes."""

    name: str
    kind: str
    size: int
    content: IO[bytes]


class _Content(io.RawIOBase):
    """The next `size` bytes of a stream, as a file."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.left = stream, size

    def read(self, size: int = -1) -> bytes:
        wanted = self.left if size < 0 else min(size, self.left)
        block = self.stream.read(wanted) if wanted else b""
        self.left -= len(block)
        if wanted and not block:
            raise BadTar("its end is missing")
        return block


class _Xz(io.RawIOBase):
    """An .xz stream decompressed within `XZ_MEMORY`, which Python's own LZMAFile does not bound."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.decoder = lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.decoder.eof:
            packed = self.file.read(1 << 16) if self.decoder.needs_input else b""
            if self.decoder.needs_input and not packed:
                raise EOFError("its end is missing")
            block = self.decoder.decompress(packed, len(buffer))
            if block:
                buffer[: len(block)] = block
                return len(block)
        return 0


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """Return what a .tar, .tar.gz, .tar.bz2 or .tar.xz file holds; its first bytes tell which it is."""
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if head == b"\xfd7zXZ\0":
        return io.BufferedReader(_Xz(file), 1 << 18)
    return file


def members(stream: IO[bytes]) -> Iterator[Member]:
    """Yield the members of a tar stream (v7, ustar, GNU or pax); their contents must be read in order.

    What was not read of one is passed over. Raises BadTar, and what the decompression of `stream` raises.
    """
    first, given, chain = True, dict[str, str](), 0
    while (header := _header(stream, first=first)) is not None:
        first = False
        name, kind, size = _parsed(header)
        if kind in (b"L", b"K", b"x", b"g"):
            chain += 1
            if size > LONGEST or chain > CHAIN:
                raise BadTar("it has headers longer than any name explains")
            given |= _extended(kind, _exactly(stream, _padded(size))[:size])
            continue
        name, size = given.get("path", name), _size(given, size)
        sparse = any(key.startswith("GNU.sparse") for key in given)
        content = _Content(stream, size)
        yield Member(name, "other" if sparse else _kind(kind, name), size, content)  # type: ignore[arg-type]
        while content.left:
            content.read(1 << 16)
        _exactly(stream, _padded(size) - size)
        given, chain = {}, 0
    if given:
        raise BadTar("its end is missing")


def _header(stream: IO[bytes], *, first: bool) -> bytes | None:
    """The next header block; None at the archive's end."""
    block = _some(stream, BLOCK)
    if not block and not first:
        return None  # as GNU tar takes it
    if len(block) < BLOCK:
        raise BadTar("its end is missing")
    if not any(block) and not first:
        return None
    stated = _number(block[148:156])
    if stated != sum(block[:148]) + 8 * ord(" ") + sum(block[156:]):
        raise BadTar("a header is not as it was written")
    return block


def _parsed(header: bytes) -> tuple[str, bytes, int]:
    """The name, type and size in a header block."""
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0]
    if header[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    return _text(name), header[156:157], _number(header[124:136])


def _extended(kind: bytes, content: bytes) -> dict[str, str]:
    """What a header says of the member after it."""
    if kind in (b"L", b"K"):
        return {"path" if kind == b"L" else "linkpath": _text(content.removesuffix(b"\0"))}
    found: dict[str, str] = {}
    while content:
        length, blank, _ = content[:12].partition(b" ")
        if not blank or not length.isdigit() or not len(length) + 3 <= int(length) <= len(content):
            raise BadTar("a header is not as it was written")
        key, sign, value = content[len(length) + 1 : int(length)].partition(b"=")
        if not sign or not value.endswith(b"\n"):
            raise BadTar("a header is not as it was written")
        found[_text(key)] = _text(value[:-1])
        content = content[int(length) :]
    if kind == b"g" and {"path", "size"} & set(found):
        raise BadTar("a header gives all its members one name or size")
    return {} if kind == b"g" else found


def _size(given: dict[str, str], size: int) -> int:
    """The size that an extended header gives, else the header's own."""
    text = given.get("size")
    if text is None:
        return size
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadTar("a header is not as it was written")
    return int(text)


def _kind(kind: bytes, name: str) -> str:
    if kind in FILES:
        return "folder" if kind == b"\0" and name.endswith("/") else "file"
    return "folder" if kind in FOLDERS else "link" if kind in LINKS else "other"


def _number(written: bytes) -> int:
    """A number in octal digits, or as GNU tar writes large ones."""
    if written[0] == 0x80:
        return int.from_bytes(written[1:], "big")
    digits = written.strip(b" \0")
    if not all(digit in b"01234567" for digit in digits):
        raise BadTar("a header is not as it was written")
    return int(digits or b"0", 8)


def _text(written: bytes) -> str:
    return written.decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _exactly(stream: IO[bytes], size: int) -> bytes:
    found = _some(stream, size)
    if len(found) < size:
        raise BadTar("its end is missing")
    return found


def _some(stream: IO[bytes], size: int) -> bytes:
    """The next `size` bytes, fewer only at the end: a stream may give less than it was asked for."""
    parts = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
