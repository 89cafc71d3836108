"""Fetching, checking and unpacking published sets, from a server on 127.0.0.1 that can be made to fail."""

import fcntl
import hashlib
import io
import random
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from budgetnet.data import DataError, Source, Unavailable, cifar10, stl10, tiny_imagenet
from budgetnet.data.download import download
from budgetnet.data.source import published, unpack

NOISE = random.Random(0).randbytes(300_000)
LIMIT = 1_000_000


class Handler(BaseHTTPRequestHandler):
    """Serves the body, with Range, unless the server's script says otherwise for this request."""

    server: "Publisher"

    def log_message(self, *given: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        self.server.paths.append(self.path)
        turn = self.server.script.pop(0) if self.server.script else {}
        if "status" in turn:
            self.send_error(turn["status"])
            return
        body = self.server.body
        start = (
            int(asked.removeprefix("bytes=").removesuffix("-")) if asked and turn.get("ranges", True) else 0
        )
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            shift = turn.get("shift", 0)
            self.send_header("Content-Range", f"bytes {start + shift}-{len(body) - 1}/{len(body)}")
        if turn.get("length", True):
            self.send_header("Content-Length", str(turn.get("announce", len(body) - start)))
        self.end_headers()
        self.wfile.write(body[start : start + turn.get("stop", len(body))])
        if "stall" in turn:
            self.wfile.flush()
            time.sleep(turn["stall"])


class Publisher(ThreadingHTTPServer):
    """A server with one body and a script of misfortunes, one for each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = b""
        self.script: list[dict[str, Any]] = []
        self.asked: list[str | None] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/pub/set.tar.gz"

    def source(self, body: bytes, folder: str = "set", limit: int = LIMIT) -> Source:
        self.body = body
        return Source(self.url, hashlib.md5(body).hexdigest(), folder, limit)


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("BUDGETNET_OFFLINE", raising=False)
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def packed(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    """Return a .tar.gz of these files, then these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return out.getvalue()


GOOD = packed({"set/a.bin": NOISE, "set/deep/b.bin": b"b"})


def fetch(publisher: Publisher, root: Path, body: bytes = GOOD, **options: Any) -> bytes:
    """Return what `download` brings."""
    given = {"limit": LIMIT, "pause": 0.0, "timeout": 5.0, "known": hashlib.md5(body).hexdigest(), **options}
    publisher.body = body
    return download(publisher.url, into=root, **given).read_bytes()


def test_a_set_is_fetched_checked_unpacked_and_the_archive_removed(
    publisher: Publisher, tmp_path: Path
) -> None:
    root = tmp_path / "new" / "root"
    source = publisher.source(GOOD)
    folder = published(root, source, ["a.bin", "deep/b.bin"], fetch=True)
    assert folder == root / "set"
    assert (folder / "a.bin").read_bytes() == NOISE
    assert sorted(path.name for path in root.rglob("*")) == ["a.bin", "b.bin", "deep", "set"]
    assert published(root, source, ["a.bin"], fetch=True) == folder
    assert published(folder, source, ["a.bin"], fetch=True) == folder
    assert publisher.asked == [None]


def test_the_root_may_be_named_by_the_publishers_folder_before_it_is_there(
    publisher: Publisher, tmp_path: Path
) -> None:
    assert published(tmp_path / "set", publisher.source(GOOD), ["a.bin"], fetch=True) == tmp_path / "set"


def test_a_broken_transfer_is_resumed_where_it_broke(publisher: Publisher, tmp_path: Path) -> None:
    publisher.script = [{"stop": 1000}, {"stop": 500}, {"status": 503}]
    assert fetch(publisher, tmp_path) == GOOD
    assert publisher.asked == [None, "bytes=1000-", "bytes=1500-", "bytes=1500-"]
    assert [path.name for path in tmp_path.iterdir()] == ["set.tar.gz"]


def test_what_an_earlier_call_left_is_resumed(publisher: Publisher, tmp_path: Path) -> None:
    publisher.script = [{"stop": 700}] + [{"status": 500}] * 3
    with pytest.raises(DataError) as refusal:
        fetch(publisher, tmp_path, attempts=3)
    assert "the server says 500 Internal Server Error (700 bytes are kept and will be continued)" in str(
        refusal.value
    )
    assert (tmp_path / "set.tar.gz.part").read_bytes() == GOOD[:700]
    assert fetch(publisher, tmp_path) == GOOD
    assert publisher.asked[-1] == "bytes=700-"


def test_a_server_without_ranges_starts_over(publisher: Publisher, tmp_path: Path) -> None:
    publisher.script = [{"stop": 1000}, {"ranges": False, "stop": 400}, {"ranges": False}]
    assert fetch(publisher, tmp_path) == GOOD


def test_a_server_that_always_breaks_at_the_same_place_is_given_up(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.script = [{"ranges": False, "stop": 1000}] * 50
    with pytest.raises(DataError, match=r"the connection broke after 1,000 of [\d,]+ bytes"):
        fetch(publisher, tmp_path, attempts=3)
    assert len(publisher.asked) == 4


def test_a_silent_server_is_asked_again_after_the_timeout(publisher: Publisher, tmp_path: Path) -> None:
    publisher.script = [{"stop": 1000, "stall": 600}]  # longer than a test may take
    assert fetch(publisher, tmp_path, timeout=0.2) == GOOD
    assert publisher.asked == [None, "bytes=1000-"]


def test_a_server_that_sends_another_part_is_not_believed(publisher: Publisher, tmp_path: Path) -> None:
    publisher.script = [{"stop": 1000}, {"shift": 1}]
    assert fetch(publisher, tmp_path) == GOOD
    assert publisher.asked == [None, "bytes=1000-", "bytes=1000-"]


def test_a_part_of_another_file_is_fetched_afresh(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "set.tar.gz.part").write_bytes(b"x" * 1000)
    assert fetch(publisher, tmp_path) == GOOD
    assert publisher.asked == ["bytes=1000-", None]


@pytest.mark.parametrize("left", [GOOD, GOOD + b"more"], ids=["as long", "longer"])
def test_a_part_as_long_as_the_file_or_longer_is_settled(
    publisher: Publisher, tmp_path: Path, left: bytes
) -> None:
    (tmp_path / "set.tar.gz.part").write_bytes(left)
    assert fetch(publisher, tmp_path) == GOOD
    assert publisher.asked == [f"bytes={len(left)}-"] + [None] * (left != GOOD)


def test_a_wrong_checksum_is_refused_and_nothing_unpacked(publisher: Publisher, tmp_path: Path) -> None:
    source = publisher.source(GOOD)
    publisher.body = GOOD[:-1] + b"!"
    with pytest.raises(DataError, match=f"came with the MD5 .* not {source.md5}, and was deleted") as refusal:
        published(tmp_path, source, ["a.bin"], fetch=True)
    assert f"fetch {publisher.url} yourself and put set.tar.gz into {tmp_path}" in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_without_a_length_is_taken_whole(publisher: Publisher, tmp_path: Path) -> None:
    publisher.script = [{"length": False}]
    assert fetch(publisher, tmp_path) == GOOD


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_by_the_server_is_final_and_names_the_file(
    publisher: Publisher, tmp_path: Path, status: int
) -> None:
    publisher.script = [{"status": status}]
    with pytest.raises(DataError, match=f"the server says {status} .*put set.tar.gz into {tmp_path}"):
        fetch(publisher, tmp_path)
    assert len(publisher.asked) == 1


def test_without_a_server_one_sentence_comes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("BUDGETNET_OFFLINE", raising=False)
    source = Source(f"http://127.0.0.1:{closed_port()}/set.tar.gz", "0" * 32, "set", LIMIT)
    with pytest.raises(Unavailable) as refusal:
        published(tmp_path, source, ["a.bin"], fetch=True)
    assert "Connection refused" in str(refusal.value)
    assert f"fetch {source.url} yourself and put set.tar.gz into {tmp_path}" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.__suppress_context__


def test_offline_nothing_is_fetched_and_the_sentence_says_what_is_missing(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUDGETNET_OFFLINE", "1")
    with pytest.raises(Unavailable, match=r"a\.bin is not there: .* put set\.tar\.gz from http"):
        published(tmp_path, publisher.source(GOOD), ["a.bin"], fetch=True)
    assert publisher.asked == []


def test_proxies_are_used_as_urllib_does(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    # urllib reads the environment once in a process.
    monkeypatch.setattr("urllib.request._opener", None)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{publisher.server_port}")
    publisher.body = GOOD
    url = "http://publisher.invalid/set.tar.gz"
    download(url, hashlib.md5(GOOD).hexdigest(), tmp_path, limit=LIMIT)
    assert publisher.paths == [url]


@pytest.mark.parametrize("turn", [{}, {"length": False}])
def test_more_than_the_limit_is_not_taken(publisher: Publisher, tmp_path: Path, turn: dict[str, Any]) -> None:
    publisher.script = [turn]
    with pytest.raises(DataError, match=r"10,000 bytes"):
        fetch(publisher, tmp_path, limit=10_000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000


def test_a_file_larger_than_the_disk_is_refused_before_it_is_fetched(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.script = [{"announce": 1 << 60, "stop": 0}]
    with pytest.raises(DataError, match=r"set\.tar\.gz takes [\d,]+ more bytes, but .* free: make room"):
        fetch(publisher, tmp_path, limit=1 << 61)


def test_two_calls_do_not_write_into_one_file(publisher: Publisher, tmp_path: Path) -> None:
    with (tmp_path / "set.tar.gz.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is fetching"):
            fetch(publisher, tmp_path)
    assert fetch(publisher, tmp_path) == GOOD


def test_a_root_that_cannot_be_written_is_a_sentence(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"set\.tar\.gz cannot be written into .*name another root"):
        published(tmp_path / "file" / "data", publisher.source(GOOD), ["a.bin"], fetch=True)
    with pytest.raises(DataError, match="name another root"):
        published(tmp_path / "file", publisher.source(GOOD), ["a.bin"], fetch=True)


@pytest.mark.parametrize("fetches", [True, False])
def test_an_archive_put_there_by_hand_is_checked_unpacked_and_kept(tmp_path: Path, fetches: bool) -> None:
    url = f"http://127.0.0.1:{closed_port()}/set.tar.gz"
    source = Source(url, hashlib.md5(GOOD).hexdigest(), "set", LIMIT)
    (tmp_path / "set.tar.gz").write_bytes(GOOD[:-9])
    with pytest.raises(
        DataError, match=f"set.tar.gz has the MD5 .* its publisher states {source.md5}: fetch {url}"
    ):
        published(tmp_path, source, ["a.bin"], fetch=fetches)
    (tmp_path / "set.tar.gz").write_bytes(GOOD)
    folder = published(tmp_path, source, ["a.bin"], fetch=fetches)
    assert (folder / "a.bin").read_bytes() == NOISE
    assert (tmp_path / "set.tar.gz").read_bytes() == GOOD


def test_only_what_is_missing_is_added_to_a_folder_that_is_there(
    publisher: Publisher, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.bin").write_bytes(b"mine")
    published(tmp_path, publisher.source(GOOD), ["deep/b.bin"], fetch=True)
    assert (tmp_path / "set" / "a.bin").read_bytes() == b"mine"
    assert (tmp_path / "set" / "deep" / "b.bin").read_bytes() == b"b"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_archive_without_what_is_needed_is_refused(publisher: Publisher, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"set\.tar\.gz was unpacked into .*set, but holds no c\.bin"):
        published(tmp_path, publisher.source(GOOD), ["c.bin"], fetch=True)


def test_a_source_is_a_http_url_of_a_file() -> None:
    for url in ("file:///etc/passwd", "ftp://127.0.0.1/a.tar.gz", "http://127.0.0.1/", "set.tar.gz"):
        with pytest.raises(DataError, match="http or https URL of an archive"):
            Source(url, "0" * 32, "set", LIMIT)


def odd(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "parent": lambda root: packed({"set/a.bin": b"a", "../evil": b"x"}),
    "parent inside": lambda root: packed({"set/a.bin": b"a", "set/../../evil": b"x"}),
    "absolute": lambda root: packed({"set/a.bin": b"a", f"{root.parent}/evil": b"x"}),
    "beside": lambda root: packed({"set/a.bin": b"a", "evil": b"x"}),
    "another folder": lambda root: packed({"set/a.bin": b"a", "setting/evil": b"x"}),
    "backslash": lambda root: packed({"set/a.bin": b"a", "set\\..\\evil": b"x"}),
    "symlink out": lambda root: packed({"set/a.bin": b"a"}, odd("set/out", tarfile.SYMTYPE, "../..")),
    "symlink in": lambda root: packed({"set/a.bin": b"a"}, odd("set/in", tarfile.SYMTYPE, "a.bin")),
    "symlink instead of the folder": lambda root: packed({}, odd("set", tarfile.SYMTYPE, str(root.parent))),
    "hard link": lambda root: packed({"set/a.bin": b"a"}, odd("set/hard", tarfile.LNKTYPE, "set/a.bin")),
    "device": lambda root: packed({"set/a.bin": b"a"}, odd("set/null", tarfile.CHRTYPE)),
    "pipe": lambda root: packed({"set/a.bin": b"a"}, odd("set/pipe", tarfile.FIFOTYPE)),
    "bomb": lambda root: packed({"set/a.bin": bytes(LIMIT), "set/b.bin": b"x"}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_leaves_nothing_anywhere(publisher: Publisher, tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    source = publisher.source(HOSTILE[kind](root))
    with pytest.raises(DataError, match="was not unpacked, for it"):
        published(root, source, ["a.bin"], fetch=True)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    assert {path.name for path in root.rglob("*")} <= {"set.tar.gz"}


@pytest.mark.parametrize(
    "body",
    [GOOD[: len(GOOD) // 2], GOOD[:30], b"", b"<html>Not found</html>" * 100],
    ids=["half", "a head", "nothing", "a page"],
)
def test_an_archive_that_is_cut_short_or_none_is_refused_whole(
    publisher: Publisher, tmp_path: Path, body: bytes
) -> None:
    with pytest.raises(DataError, match=r"set\.tar\.gz (is cut short or damaged|should hold the folder set)"):
        published(tmp_path, publisher.source(body), ["a.bin"], fetch=True)
    assert not (tmp_path / "set").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"set.tar.gz"}


def test_unpacked_files_have_the_permissions_of_new_files(tmp_path: Path) -> None:
    member = tarfile.TarInfo("set/run")
    member.mode, member.uid, member.mtime = 0o4777, 12345, 1
    (tmp_path / "set.tar.gz").write_bytes(packed({}, member))
    (tmp_path / "plain").touch()
    run = unpack(tmp_path / "set.tar.gz", tmp_path, folder="set", limit=LIMIT) / "run"
    assert run.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert run.stat().st_uid == (tmp_path / "plain").stat().st_uid


def test_stl10_and_cifar10_come_from_the_source_they_are_given(publisher: Publisher, tmp_path: Path) -> None:
    labels = bytes(range(1, 11))
    body = packed({"stl10_binary/train_X.bin": bytes(27_648 * 10), "stl10_binary/train_y.bin": labels})
    assert len(stl10(tmp_path, held_out=0, download=publisher.source(body, "stl10_binary")).train) == 10
    batch = b"".join(bytes([label]) + bytes(3072) for label in range(10))
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    body = packed({f"cifar-10-batches-bin/{name}": batch for name in names})
    source = publisher.source(body, "cifar-10-batches-bin")
    assert len(cifar10(tmp_path, held_out=10, download=source).train) == 40
    assert len(publisher.asked) == 2


def test_the_publishers_addresses_are_these() -> None:
    from budgetnet.data.publishers import CIFAR10, STL10

    assert STL10.url == "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
    assert (STL10.archive, STL10.md5) == ("stl10_binary.tar.gz", "91f7769df0f17e558f3565bffb0c7dfb")
    assert CIFAR10.url == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert (CIFAR10.archive, CIFAR10.md5) == ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")


def zipped(files: dict[str, bytes], *links: str) -> bytes:
    """Return a .zip of these files, and of these links to /etc/passwd."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name in links:
            member = zipfile.ZipInfo(name)
            member.create_system, member.external_attr = 3, 0o120777 << 16
            archive.writestr(member, "/etc/passwd")
    return out.getvalue()


def test_a_zip_archive_is_unpacked_whole(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(zipped({"set/a.bin": NOISE, "set/deep/": b"", "set/deep/b.bin": b"b"}))
    folder = unpack(tmp_path / "set.zip", tmp_path, folder="set", limit=LIMIT)
    assert (folder / "a.bin").read_bytes() == NOISE
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.bin", "b.bin", "deep", "set", "set.zip"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (zipped({"set/a": b"a", "set/../../b": b"b"}), "'set/../../b' outside the folder set"),
        (zipped({"/set/a": b"a"}), "'/set/a' outside the folder set"),
        (zipped({"set/a": b"a", "other/b": b"b"}), "'other/b' outside the folder set"),
        (zipped({"set/a": b"a"}, "set/link"), r"a link \('set/link'\)"),
        (zipped({"set/a": b"a" * (LIMIT + 1)}), "it would take more than 1,000,000 bytes"),
        (zipped({"set/a": NOISE})[:-30], "cut short or damaged"),
        (zipped({"set/a": NOISE}).replace(NOISE[1000:1010], b"0123456789"), "cut short or damaged"),
        (b"no archive at all", "cut short or damaged"),
    ],
    ids=["parent", "absolute", "another folder", "link", "large", "cut", "damaged", "none"],
)
def test_a_zip_archive_that_is_not_as_it_should_be_leaves_nothing(
    tmp_path: Path, body: bytes, message: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "set.zip").write_bytes(body)
    with pytest.raises(DataError, match=message):
        unpack(root / "set.zip", root, folder="set", limit=LIMIT)
    assert [path.name for path in root.iterdir()] == ["set.zip"]
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_tiny_imagenet_is_fetched_and_read(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photo = io.BytesIO()
    Image.new("L", (64, 64), 77).save(photo, "JPEG")
    top = "tiny-imagenet-200"
    files = {f"{top}/wnids.txt": b"n00000001\nn00000002\n", f"{top}/words.txt": b"n00000001\tant, emmet\n"}
    for k in (1, 2):
        files[f"{top}/train/n0000000{k}/images/n0000000{k}_0.JPEG"] = photo.getvalue()
        files[f"{top}/val/images/val_{k}.JPEG"] = photo.getvalue()
    files[f"{top}/val/val_annotations.txt"] = b"val_1.JPEG\tn00000002\t0\nval_2.JPEG\tn00000001\t0\n"
    publisher.body = zipped(files)
    url = publisher.url.replace("set.tar.gz", f"{top}.zip")
    source = Source(url, hashlib.md5(publisher.body).hexdigest(), top, LIMIT)
    for _ in range(2):
        data = tiny_imagenet(tmp_path, download=source)
        assert data.classes == ("ant", "n00000002")
        assert data.val is not None
        assert data.val.labels.tolist() == [1, 0]
        assert int(data.train.images.float().mean().round()) == 77
    assert publisher.paths == [f"/pub/{top}.zip"]
    assert not (tmp_path / f"{top}.zip").exists()


def test_a_download_that_fails_leaves_no_folder_that_it_made(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/set.tar.gz"
        (tmp_path / "here").mkdir()
        for into in (tmp_path / "here" / "new" / "deep", tmp_path / "here"):
            with pytest.raises(Unavailable):
                download(url, "0" * 64, into, limit=1000, attempts=1, pause=0.01, timeout=1)
    assert list(tmp_path.iterdir()) == [tmp_path / "here"]
    assert [path.name for path in (tmp_path / "here").iterdir()] in ([], ["set.tar.gz.part"])
