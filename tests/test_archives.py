"""Archives made to harm, more than 200 kinds: nothing is written outside, nothing explodes, nothing stays.

Each is unpacked under an audit hook and compared with a picture of the folder above, taken before; time and
memory are bounded; and what is refused is refused in one sentence.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import shutil
import stat
import struct
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from budgetnet.data import DataError
from budgetnet.data import source as unpacking
from budgetnet.data.source import unpack

LIMIT = 1_000_000
SOUND = "sound"
"""What is expected of archives that look odd and do no harm: they are unpacked."""
TAKEN_OR_NOT = ""
"""What is expected where Python's own readers may take an archive or refuse it: that it does no harm."""
Case = tuple[str, bytes, str]
"""The archive's ending, its bytes, and words of its refusal, or SOUND."""

# --- parts of archives


def entry(name: str, content: bytes = b"x", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


GOOD = entry("set/good.bin", b"good" * 300)


def tar(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive with its end; a member's size may be a lie."""
    parts = []
    for member, content in entries:
        parts += [member.tobuf(form, "utf-8", "surrogateescape"), content, bytes(-len(content) % 512)]
    return b"".join(parts) + bytes(1024)


def header(name: bytes, size: bytes, kind: bytes = b"0", magic: bytes = b"ustar\00000") -> bytes:
    """A header block with whatever is given, and the right checksum."""
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" * 3 + size.ljust(12, b"\0") + b"0" * 11 + b"\0")
    block += b" " * 8 + kind + bytes(100) + magic
    block += bytes(512 - len(block))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def octal(size: int) -> bytes:
    return b"%011o\0" % size


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode("utf-8", "surrogateescape")
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def pax(content: bytes, kind: bytes = b"x") -> bytes:
    return header(b"pax", octal(len(content)), kind) + padded(content)


def plain(name: bytes = b"set/good.bin", content: bytes = b"good") -> bytes:
    return header(name, octal(len(content))) + padded(content)


def zipped(*files: tuple[Any, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for given, content in files:
            member = given if isinstance(given, zipfile.ZipInfo) else named(given)
            member.compress_type = method
            archive.writestr(member, content)
    return out.getvalue()


def named(name: str, mode: int = 0o100644, **fields: Any) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("set/any")
    member.filename, member.create_system, member.external_attr = name, 3, mode << 16
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def patched(whole: bytes, signature: bytes, offset: int, value: bytes, nth: int = 0) -> bytes:
    """A zip archive of which the nth record of this signature says something else."""
    place = -1
    for _ in range(nth + 1):
        place = whole.index(signature, place + 1)
    changed = bytearray(whole)
    changed[place + offset : place + offset + len(value)] = value
    return bytes(changed)


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
FINE = (("set/good.bin", b"good" * 300),)

# --- names, in tar and zip archives

OUTSIDE = "outside"  # of "a path outside its folder" and "'x' outside the folder set"


def names(root: Path) -> Iterator[tuple[str, str]]:
    """Names of files, and what is expected of them."""
    outside = [
        *("../evil", "../../evil", "set/../../evil", "set/a/../../../evil", "./../evil", "set/./../../evil"),
        *("set//../../evil", "set/..", "..", "../set/evil", "set/../set/evil", "/etc/evil", "//etc/evil"),
        *(f"{root.parent}/evil", f"{root}/set/evil", f"{root}/../evil", "///evil", "/set/evil", "/"),
        *("evil", "setting/evil", "se", "SET/evil", "Set/evil", " set/evil", "set /evil", "\uff53et/evil"),
        *("set\\..\\..\\evil", "..\\evil", "C:\\evil", "C:/evil", "C:evil", "\\\\host\\share\\evil"),
        *("set/\\..\\evil", "\\evil", "~/.bashrc", "~root/evil", "$HOME/evil", "proc/self/cwd/evil"),
        *("dev/null", "file:///etc/evil", "http://127.0.0.1/evil", "%2e%2e/evil", "\uff0e\uff0e/evil"),
        *("set\u2215..\u2215evil", "..\u2044evil", "-rf", "*", "nul:", "set:evil", ".set/evil", ".ssh/evil"),
    ]
    yield from ((name, OUTSIDE) for name in outside)
    yield from ((name, OUTSIDE) for name in ("", "."))
    yield from ((name, "in the place of a folder") for name in ("set", "./set"))
    long = ("set/" + "a" * 256, "set/" + "\u00e9" * 200, "set/" + "a/" * 40 + "b", "set/" + "a/" * 3000 + "b")
    yield from ((name, "too long|sound") for name in (*long, "set/" + "/".join(["a" * 200] * 6)))
    hidden = ("\x1b[2J", "a\nb", "\x07", "\u202egnp.exe", "\r", "\x7f", "\x9b2J", "\u2028", "a\u200bb", "\t")
    yield from ((f"set/{name}", SOUND) for name in hidden)
    sound = (".bashrc", "-rf", "con", "aux.txt", "$HOME", "%2e%2e", "...", "\u2215..\u2215evil", "*", "a b")
    yield from (
        (f"set/{name}", SOUND) for name in (*sound, "~", "\u00e9\u4e2d", "..evil", "evil..", ".set-x")
    )
    yield "./set/evil", SOUND
    yield "set/./evil", SOUND
    yield "set//evil", SOUND


def name_cases(root: Path) -> Iterator[tuple[str, Case]]:
    for name, expected in names(root):
        told = f"{name!r:.40}"
        yield f"tar named {told}", (".tar", tar(GOOD, entry(name), form=tarfile.GNU_FORMAT), expected)
        yield f"pax named {told}", (".tar.gz", gzip.compress(tar(GOOD, entry(name)), 1), expected)
        if name.endswith("/"):
            expected = OUTSIDE
        if name:
            yield f"zip named {told}", (".zip", zipped(*FINE, (name, b"x")), expected)
    for name in ("set/../../evil", "/etc/evil", "evil/", "../evil", "set\\x"):
        folder = entry(name, b"", type=tarfile.DIRTYPE)
        yield f"tar folder {name}", (".tar", tar(GOOD, folder), OUTSIDE)
        yield f"zip folder {name}", (".zip", zipped(*FINE, (named(name + "/", 0o040755), b"")), OUTSIDE)
    yield "tar name with a zero", (".tar", pax(record("path", "set/a\0b")) + tar(GOOD), OUTSIDE)
    yield "zip name with a zero", (".zip", zipped(*FINE, ("set/a\0.jpg", b"x")), SOUND)
    yield "tar name in no encoding", (".tar", tar(GOOD, entry("set/\udcff\udcfe")), SOUND)
    bad = zipped(("set/\u00e9", b"x")).replace("\u00e9".encode(), b"\xff\xfe")
    yield "zip name in no encoding", (".zip", bad, "cut short or damaged")


# --- members that are no files, and tar headers that lie


def kind_cases(root: Path) -> Iterator[tuple[str, Case]]:
    def member(name: str, kind: bytes, target: str = "", content: bytes = b"") -> Any:
        return entry(name, content, type=kind, linkname=target)

    sym, hard = tarfile.SYMTYPE, tarfile.LNKTYPE
    out = [
        *("..", "../..", "/", "/etc/passwd", str(root.parent), str(root.parent / "victim"), "../victim"),
        *("good.bin", ".", "self", "", "/proc/self/cwd", "/dev/null", "\\..\\x", "../" * 50),
    ]
    for target in out:
        yield f"symlink to {target}", (".tar", tar(GOOD, member("set/self", sym, target)), "a link")
        yield (
            f"hard link to {target}",
            (".tar.gz", gzip.compress(tar(member("set/self", hard, target))), "link"),
        )
        mode = 0o120777
        yield (
            f"zip symlink to {target}",
            (".zip", zipped(*FINE, (named("set/self", mode), target.encode())), "link"),
        )
    chain = [member(f"set/{k}", sym, "..") for k in range(9)]
    yield "chain of links", (".tar", tar(*chain, entry("set/0/1/2/3/evil")), "a link")
    yield "link and a file beneath", (".tar", tar(member("set/d", sym, "../.."), entry("set/d/evil")), "link")
    yield "link instead of the folder", (".tar", tar(member("set", sym, str(root.parent))), "a link")
    yield "link after its folder", (".tar", tar(entry("set/d/a"), member("set/d", sym, "../..")), "a link")
    odd = {
        "character device": tarfile.CHRTYPE,
        "block device": tarfile.BLKTYPE,
        "pipe": tarfile.FIFOTYPE,
        "sparse file": b"S",
        "folder's listing": b"D",
        "second volume": b"M",
        "volume's name": b"V",
        "socket or whatever": b"s",
        "access list": b"A",
        "Solaris header": b"X",
        "kind without a name": b"~",
        "kind of a control character": b"\x1b",
    }
    for name, kind in odd.items():
        yield name, (".tar", header(b"set/odd", octal(0), kind) + tar(GOOD), "neither file nor folder|sound")
    modes = {"pipe": 0o010644, "device": 0o020644, "blocks": 0o060644, "socket": 0o140644, "door": 0o150644}
    for name, mode in modes.items():
        yield f"zip {name}", (".zip", zipped(*FINE, (named("set/odd", mode), b"")), "neither file nor folder")
    for mode in (0o4777, 0o2777, 0o1777, 0o7777, 0):
        yield f"mode {mode:o}", (".tar", tar(entry("set/run", mode=mode, uid=0, uname="root")), SOUND)
        yield f"zip mode {mode:o}", (".zip", zipped((named("set/run", 0o100000 | mode), b"x")), SOUND)
    yield "contiguous file", (".tar", header(b"set/a", octal(1), b"7") + padded(b"x") + bytes(1024), SOUND)
    yield "the oldest form", (".tar", header(b"set/a", octal(1), b"\0", b"") + padded(b"x"), SOUND)
    yield "a time of long ago", (".tar", tar(entry("set/a", mtime=-(10**6))), SOUND)
    yield "a time without end", (".tar", tar(entry("set/a", mtime=10**15)), SOUND)


def pair_cases() -> Iterator[tuple[str, Case]]:
    """Members that get into each other's way."""
    pairs = {
        "the same file twice": (entry("set/a", b"one"), entry("set/a", b"two")),
        "the same by a detour": (entry("set/a", b"one"), entry("set/./a", b"two")),
        "a file below a file": (entry("set/a"), entry("set/a/b")),
        "a folder over a file": (entry("set/a"), entry("set/a", b"", type=tarfile.DIRTYPE)),
        "a file over a folder": (entry("set/a", b"", type=tarfile.DIRTYPE), entry("set/a")),
        "a file over the folder of one": (entry("set/a/b"), entry("set/a")),
    }
    for name, pair in pairs.items():
        yield name, (".tar", tar(*pair), "two files of one name")
        inside = [(f"{m.name}/" if m.isdir() else m.name, content) for m, content in pair]
        yield f"zip: {name}", (".zip", zipped(*inside), "two files of one name")
    yield "equal but for case", (".tar", tar(entry("set/a"), entry("set/A")), SOUND)
    yield "zip: equal but for case", (".zip", zipped(("set/a", b"x"), ("set/A", b"y")), SOUND)
    folder = entry("set", b"", type=tarfile.DIRTYPE)
    yield "a folder twice", (".tar", tar(folder, GOOD, folder), SOUND)
    yield "an archive in an archive", (".tar", tar(entry("set/set.tar", tar(GOOD))), SOUND)
    yield (
        "a zip in a zip in a zip",
        (".zip", zipped(("set/a.zip", zipped(("set/a.zip", zipped(*FINE))))), SOUND),
    )


def header_cases() -> Iterator[tuple[str, Case]]:
    """Headers of tar archives that say what cannot be."""

    def extended(*records: bytes, kind: bytes = b"x", rest: bytes = b"") -> bytes:
        return pax(b"".join(records), kind) + (rest or plain()) + bytes(1024)

    end = bytes(1024)
    bad = TAKEN_OR_NOT
    yield "pax path out", (".tar", extended(record("path", "../evil")), OUTSIDE)
    yield "pax path to the root", (".tar", extended(record("path", "/etc/evil")), OUTSIDE)
    yield "pax path of nothing", (".tar", extended(record("path", "")), OUTSIDE)
    yield "pax path twice", (".tar", extended(record("path", "set/a"), record("path", "../evil")), OUTSIDE)
    yield "pax link path", (".tar", extended(record("linkpath", "/etc/passwd")), SOUND)
    yield "a path for all", (".tar", extended(record("path", "set/a"), kind=b"g"), bad)
    yield "a size for all", (".tar", extended(record("size", "0"), kind=b"g"), bad)
    yield "a comment for all", (".tar", extended(record("comment", "x"), kind=b"g"), SOUND)
    for size in ("-1", "9" * 18, "9" * 19, "9" * 5000, "1e9", "0x10", "", " 4", "\u0664", "4.0", "nan"):
        expected = "would take more" if size in ("9" * 18, "9" * 19) else bad
        yield f"pax size {size:.20}", (".tar", extended(record("size", size)), expected)
    yield "pax size short", (".tar", extended(record("size", "1")), SOUND)
    yield (
        "pax size of nothing",
        (".tar", extended(record("size", "0")), bad),
    )  # its content is read as a header
    for name in ("map", "size", "major", "name", "realsize", "numblocks"):
        sparse = extended(record(f"GNU.sparse.{name}", "1"), record("GNU.sparse.minor", "0"))
        yield f"pax sparse {name}", (".tar", sparse, TAKEN_OR_NOT)
    records = [
        b"0 a=b\n",
        b"99 a=b\n",
        b"-6 a=b\n",
        b"6 ab\n",
        b"a=b\n",
        b"6 a=bc",
        b"\0" * 20,
        b"7",
        b" 6 a=b\n",
    ]
    for content in [*records, b"9" * 300 + b" a=b\n", b"1 a=b\n", b"5 a=b\n"]:
        yield f"pax record {content!r:.30}", (".tar", extended(content), bad)
    yield "pax of no consequence", (".tar", extended(record("mtime", "nan"), record("uid", "-1")), SOUND)
    yield "a thousand headers", (".tar", pax(record("comment", "x")) * 1000 + plain() + end, bad)
    longs = header(b"n", octal(6), b"L") + padded(b"set/a\0")
    yield "ten thousand names", (".tar.gz", gzip.compress(longs * 10_000 + plain() + end, 1), bad)
    yield "a name without its file", (".tar", plain() + longs + end, bad)
    yield "a name without an end", (".tar", plain() + longs, bad)
    yield (
        "a long name out",
        (".tar", header(b"n", octal(8), b"L") + padded(b"../evil\0") + plain() + end, OUTSIDE),
    )
    split = header(b"evil", octal(1), magic=b"ustar\00000")
    split = bytearray(split)
    split[345:350] = b"../.."
    split[148:156] = b" " * 8
    split[148:156] = b"%06o\0 " % sum(split)
    yield "a name in two parts", (".tar", bytes(split) + padded(b"x") + end, OUTSIDE)
    huge = b"\x80" + (10**18).to_bytes(11, "big")
    yield "a size without end", (".tar", header(b"set/a", huge) + padded(b"x"), "would take more")
    yield "a size below nothing", (".tar", header(b"set/a", b"\xff" * 12) + padded(b"x") + end, bad)
    yield "a size that is no number", (".tar", header(b"set/a", b"12x89999999") + padded(b"x") + end, bad)
    yield "a size of letters", (".tar", header(b"set/a", b"abcdefghijk") + end, bad)
    yield "a size beyond the end", (".tar", header(b"set/a", octal(9000)) + padded(b"x" * 5000), bad)
    yield "a size of nothing", (".tar", header(b"set/a", octal(0)) + padded(b"x") + end, bad)
    yield "a wrong sum", (".tar", plain()[:10] + b"!" + plain()[11:] + end, bad)
    yield "a wrong sum later", (".tar", plain() + plain()[:10] + b"!" + plain()[11:] + end, bad)
    yield "members after the end", (".tar", plain() + end + plain(b"../evil") + end, SOUND)
    yield "nothing but zeros", (".tar", bytes(5000), bad)
    yield "half a header", (".tar", plain()[:300], bad)
    yield "half a content", (".tar", header(b"set/a", octal(5000)) + b"x" * 700, bad)
    yield "an empty file", (".tar", b"", bad)
    yield "noise", (".tar", random.Random(0).randbytes(5000), bad)
    yield "a page", (".tar.gz", b"<!DOCTYPE html><html>Not found</html>" * 99, bad)


# --- compressed streams and zip archives that lie


def bomb_cases() -> Iterator[tuple[str, Case]]:
    bad, over = "cut short or damaged", "would take more"
    zeros = tar(entry("set/a", bytes(20_000_000)))
    for ending, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        whole = pack(tar(GOOD))
        yield f"a bomb{ending}", (".tar" + ending, pack(zeros), over)
        yield f"a bomb behind the end{ending}", (".tar" + ending, pack(tar(GOOD) + bytes(20_000_000)), SOUND)
        yield f"half{ending}", (".tar" + ending, whole[: len(whole) // 2], bad)
        yield f"only its beginning{ending}", (".tar" + ending, whole[:6] + b"x" * 500, bad)
        noisy = pack(tar(entry("set/a", random.Random(1).randbytes(9000))))
        middle = len(noisy) // 2
        flipped = (
            noisy[:middle] + bytes(byte ^ 0xFF for byte in noisy[middle : middle + 9]) + noisy[middle + 9 :]
        )
        if ending != ".gz":  # whose sum is checked at its end, which is behind the archive's
            yield f"a flipped part{ending}", (".tar" + ending, bytes(flipped), bad)
        yield f"packed twice{ending}", (".tar" + ending, pack(whole), bad)
        yield f"and what else{ending}", (".tar" + ending, whole + b"x" * 999, SOUND)
    many = b"".join(header(b"set/%d" % k, octal(200_000)) + padded(bytes(200_000)) for k in range(6))
    yield "a bomb in parts", (".tar.gz", gzip.compress(many, 1), over)
    many = header(b"set/", octal(0), b"5") * 2000
    yield "more members than are taken", (".tar.gz", gzip.compress(many, 1), "more than 1,000 files")
    head = b"\x1f\x8b\x08\x08\0\0\0\0\0\3"
    yield "a long name of its own.gz", (".tar.gz", head + b"n" * 10**6, bad)
    yield "without a beginning.gz", (".tar.gz", b"\x1f\x8b\x08", bad)
    yield "an unknown way.gz", (".tar.gz", b"\x1f\x8b\x07" + bytes(50), bad)
    empty = gzip.compress(b"") * 5000 + gzip.compress(tar(GOOD))
    yield "five thousand empty parts.gz", (".tar.gz", empty, SOUND)
    yield "a tar under a zip's name", (".zip", tar(GOOD), bad)
    yield "a zip under a tar's name", (".tar", zipped(*FINE), bad)


def zip_cases() -> Iterator[tuple[str, Case]]:
    bad, over = "cut short or damaged", "would take more"
    whole = zipped(*FINE, ("set/b.bin", b"b" * 500))
    size = len(FINE[0][1])
    yield "a zip bomb", (".zip", zipped(("set/a", bytes(20_000_000))), over)
    yield "a zip bomb in parts", (".zip", zipped(*((f"set/{k}", bytes(200_000)) for k in range(6))), over)
    small = patched(zipped(("set/a", bytes(20_000_000))), CENTRAL, 24, struct.pack("<I", 10))
    yield "a bomb that says it is small", (".zip", small, bad)
    small = patched(small, LOCAL, 22, struct.pack("<I", 10))
    yield "a bomb that says so twice", (".zip", small, bad)
    yield "a size too large", (".zip", patched(whole, CENTRAL, 24, struct.pack("<I", size + 5)), SOUND)
    yield "a size without end", (".zip", patched(whole, CENTRAL, 24, b"\xfe\xff\xff\xff"), over)
    yield (
        "a packed size beyond the end",
        (".zip", patched(whole, CENTRAL, 20, struct.pack("<I", 10**6)), bad + "|sound"),
    )
    yield "a packed size of nothing", (".zip", patched(whole, CENTRAL, 20, bytes(4)), bad)
    yield "a wrong sum", (".zip", patched(whole, CENTRAL, 16, b"\1\2\3\4"), bad)
    yield "encrypted", (".zip", patched(whole, CENTRAL, 8, b"\1\0"), bad)
    yield "encrypted strongly", (".zip", patched(whole, CENTRAL, 8, b"\x41\0"), bad)
    yield "a patch", (".zip", patched(whole, CENTRAL, 8, b"\x20\0"), bad)
    for method in (1, 6, 9, 12, 14, 20, 93, 95, 98, 99, 65535):
        changed = patched(whole, CENTRAL, 10, struct.pack("<H", method))
        yield f"compression {method}", (".zip", changed, bad)
    for name, method in (("bzip2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA)):
        yield f"really {name}", (".zip", zipped(*FINE, method=method), SOUND)
    yield "stored", (".zip", zipped(*FINE, method=zipfile.ZIP_STORED), SOUND)
    yield "another name inside", (".zip", whole.replace(b"set/good.bin", b"set/evil.bin", 1), bad)
    yield "the way out inside", (".zip", whole.replace(b"set/good.bin", b"../../evil!!", 1), bad)
    yield "the way out in the table", (".zip", patched(whole, CENTRAL, 46, b"../../evil!!"), OUTSIDE)
    yield "no file where it should be", (".zip", patched(whole, CENTRAL, 42, struct.pack("<I", 7)), bad)
    yield "a place beyond the end", (".zip", patched(whole, CENTRAL, 42, b"\xfe\xff\xff\x7f"), bad)
    yield "one file for two names", (".zip", patched(whole, CENTRAL, 42, bytes(4), nth=1), bad)
    yield "a table beyond the end", (".zip", patched(whole, END, 16, b"\xfe\xff\xff\x7f"), bad)
    yield "a table of no size", (".zip", patched(whole, END, 12, bytes(4)), bad + "|found none|outside")
    yield "a table of all memory", (".zip", patched(whole, END, 12, b"\xfe\xff\xff\x7f"), bad)
    yield "other disks", (".zip", patched(whole, END, 4, b"\7\0\7\0"), SOUND)
    yield "sixty thousand files, it says", (".zip", patched(whole, END, 8, b"\xff\xfe\xff\xfe"), SOUND)
    yield "a table without a file", (".zip", whole.replace(CENTRAL, b"PK\x07\x07", 1), bad)
    yield "only an end", (".zip", END + bytes(18), "found none")
    yield "half", (".zip", whole[: len(whole) // 2], bad)
    yield "without its beginning", (".zip", whole[100:], bad)
    yield "with something before it", (".zip", b"#!/bin/sh\nrm -rf /\n" + whole, SOUND)
    yield "two archives", (".zip", zipped(("../evil", b"x")) + whole, SOUND)
    yield "two archives, the second out", (".zip", whole + zipped(("../evil", b"x")), OUTSIDE)
    flipped = bytearray(whole)
    flipped[45:49] = bytes(byte ^ 0xFF for byte in flipped[45:49])
    yield "damaged content", (".zip", bytes(flipped), bad)
    extra = named("set/good.bin", extra=struct.pack("<HH", 1, 999) + b"x")
    yield "an extra field beyond its end", (".zip", zipped((extra, b"x")), bad + "|unpacked|sound")
    other = struct.pack("<BI", 1, zlib.crc32(b"set/good.bin")) + b"../evil"
    extra = named("set/good.bin", extra=struct.pack("<HH", 0x7075, len(other)) + other)
    yield "a second name in an extra field", (".zip", zipped((extra, b"x")), "two names|sound")
    other = struct.pack("<QQQ", 2**63, 2**63, 2**63)
    zip64 = named("set/good.bin", extra=struct.pack("<HH", 1, 24) + other)
    wide = patched(zipped((zip64, b"x")), CENTRAL, 20, b"\xff" * 8)
    yield "sizes of 64 bits", (".zip", wide, over + "|" + bad)
    many = zipped(*((f"set/{k}/", b"") for k in range(2000)))
    yield "more files than are taken", (".zip", many, "more than 1,000 files")
    yield "a folder with content", (".zip", zipped(*FINE, (named("set/a/", 0o040755), b"x" * 99)), SOUND)
    yield "a comment as long as it gets", (".zip", commented(whole, b"PK\5\6" * 9000), bad + "|sound")


def commented(whole: bytes, comment: bytes) -> bytes:
    return whole[:-2] + struct.pack("<H", len(comment)) + comment


def cases(root: Path, *, bombs: bool) -> dict[str, Case]:
    found: dict[str, Case] = {}
    parts = [name_cases(root), kind_cases(root), pair_cases(), zip_cases()]
    if bombs:
        parts += [header_cases(), bomb_cases()]
    for part in parts:
        for name, case in part:
            assert name not in found or name.startswith("half"), name
            found[f"{name} ({case[0]})"] = case
    return found


# --- what is watched

WRITES = {
    *("os.mkdir", "os.link", "os.symlink", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.chown"),
    *("os.truncate", "os.utime", "os.setxattr", "os.mkfifo", "os.mknod", "os.system", "subprocess.Popen"),
}
STRAYED: list[str] = []
ALLOWED: list[str] = []
"""The folder below which it may be written, while one is unpacked to."""


def seen(event: str, args: tuple[Any, ...]) -> None:
    if not ALLOWED:
        return
    writes = event in WRITES
    if event == "open" and isinstance(args[0], str | bytes):
        flags = args[2] or 0
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if writes:
        for path in args[1:2] if event == "os.symlink" else args[: 1 + (event in ("os.rename", "os.link"))]:
            if not isinstance(path, str | bytes | os.PathLike):
                continue
            real = os.path.realpath(os.fsdecode(path))
            # shutil.rmtree names what is in a folder by its descriptor.
            if not os.path.isabs(os.fsdecode(path)) and event in ("os.remove", "os.rmdir", "open"):
                continue
            if not (real + "/").startswith(ALLOWED[0] + "/"):
                STRAYED.append(f"{event} {real}")


sys.addaudithook(seen)


def pictured(folder: Path) -> dict[str, tuple[Any, ...]]:
    """All that lies in a folder: kinds, permissions, times and contents."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        times = about.st_mtime_ns if not path.is_dir() else 0
        found[str(path)] = (about.st_mode, about.st_nlink if not path.is_dir() else 0, times, content)
    return found


def trouble(root: Path, case: Case) -> str:
    """What went wrong as an archive was unpacked into `root`, or nothing."""
    ending, body, expected = case
    archive = root / f"set{ending}"
    archive.write_bytes(body)
    before = pictured(root.parent)
    STRAYED.clear()
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    ALLOWED.append(os.path.realpath(root))
    told, folder = SOUND, None
    try:
        folder = unpack(archive, root, folder="set", limit=LIMIT)
    except DataError as error:
        told = str(error)
    except Exception as error:
        told = f"a traceback, {error!r}"
    finally:
        ALLOWED.clear()
    peak = tracemalloc.get_traced_memory()[1] - held
    wrong = list(STRAYED)
    if not any(words in told for words in expected.split("|")) or told.startswith("a traceback"):
        wrong.append(f"told {told:.300}, expected {expected}")
    if "\n" in told or len(told) > 700 or not told.isprintable():
        wrong.append(f"told in no plain sentence: {told!r:.300}")
    if folder is not None:
        for path in [folder, *folder.rglob("*")]:
            mode = path.lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)) or mode & 0o7022:
                wrong.append(f"{path} has mode {mode:o}")
        if sum(path.stat().st_size for path in folder.rglob("*")) > 2 * LIMIT:
            wrong.append("more than the limit")
        shutil.rmtree(folder)
    after = pictured(root.parent)
    if after != before:
        wrong.append(f"left {sorted(set(before.items()) ^ set(after.items()))[:3]}")
    if peak > 10e6:
        wrong.append(f"took {peak / 1e6:.0f} MB")
    archive.unlink()
    return "; ".join(wrong)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "folder").mkdir()
    return tmp_path / "root"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("bombs", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_of_two_hundred_hostile_archives_none_writes_outside_explodes_or_stays(
    root: Path, monkeypatch: pytest.MonkeyPatch, bombs: bool
) -> None:
    monkeypatch.setattr(unpacking, "MEMBERS", 1000)
    found = cases(root, bombs=bombs)
    if bombs:
        assert len(found) >= 500
        assert sum(expected != SOUND for _, _, expected in found.values()) >= 350
    else:  # a third of those that are quickly made, everyday
        found = dict(list(found.items())[::3])
    tracemalloc.start()
    try:
        wrong = {name: told for name, case in found.items() if (told := trouble(root, case))}
    finally:
        tracemalloc.stop()
    assert not wrong, "\n".join(f"{name}: {told}" for name, told in wrong.items())


def test_the_watch_sees_what_strays(root: Path) -> None:
    STRAYED.clear()
    ALLOWED.append(os.path.realpath(root))
    try:
        (root.parent / "evil").write_text("x")
        (root / "fine").write_text("x")
        os.symlink("fine", root.parent / "link")
    finally:
        ALLOWED.clear()
    assert len(STRAYED) == 2, STRAYED
