"""A cache of facts about images in files, such as digests and means, which take long to work out."""

import contextlib
import glob
import hashlib
import json
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from budgetnet.data.disk import CHUNK, File, OnDisk, source_of
from budgetnet.data.progress import Progress
from budgetnet.process import cores

# Part of every key: raised whenever the same question about the same images has another answer.
VERSION = 1
BYTES = 32
FOLDER = "known"
# From so many bytes on it is said that they are looked at.
LONG = 1 << 30


def recall(images: Tensor | OnDisk, question: str, find: Callable[[], Any]) -> Any:
    """Return what `find` gives, JSON values, from the cache where the same was asked before.

    The key is the question, the images' positions, and the files' paths, sizes and times of change. A damaged
    answer, told by its digest, is worked out again. For images that come from no file, or were changed in
    memory, nothing is cached.
    """
    source = source_of(images)
    if source is None or source.cache is None or not source.files:
        return find()
    rows = hashlib.sha256(source.rows.numpy().data).hexdigest()
    identity = "\n".join([*(file.identity for file in source.files), rows])
    path = _path(source.cache, source.files[0], identity, question)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        answered = json.loads(path.read_bytes())
        if answered["digest"] == _digest(answered["answer"]):
            return answered["answer"]
    # As it will be read: lists for tuples.
    answer = json.loads(json.dumps(find()))
    _write(path, json.dumps({"question": question, "answer": answer, "digest": _digest(answer)}).encode())
    return answer


def _digest(answer: Any) -> str:
    return hashlib.sha256(json.dumps(answer).encode()).hexdigest()


def digests(images: OnDisk) -> Tensor | None:
    """Return the SHA-256 of each image's pixels, uint8 (N, 32); None where some lie in no file."""
    if not images.files:
        return None
    whole = torch.cat([_digests(file, images.cache) for file in images.files])
    return whole.index_select(0, images.rows)


def _digests(file: File, cache: Path | None) -> Tensor:
    """Return the SHA-256 of each image of a file, uint8 (count, 32)."""
    if file.digests is None:
        path = None if cache is None else _path(cache, file, file.identity, "digests")
        file.digests = None if path is None else _stored(path, len(file))
        if file.digests is None:
            file.digests = _hashed(file)
            if path is not None:
                content = file.digests.numpy().tobytes()
                _write(path, content + hashlib.sha256(content).digest())
    return file.digests


def _stored(path: Path, count: int) -> Tensor | None:
    with contextlib.suppress(OSError):
        whole = path.read_bytes()
        content, digest = whole[:-BYTES], whole[-BYTES:]
        if len(content) == count * BYTES and hashlib.sha256(content).digest() == digest:
            return torch.from_numpy(np.frombuffer(content, np.uint8).copy()).view(count, BYTES)
    return None


def _hashed(file: File) -> Tensor:
    """Look at all images of a file, on all cores that are ours."""
    step = max(1, CHUNK // file.each)
    chunks = torch.split(torch.arange(len(file)), step)
    whole = OnDisk([file])
    hashes = []
    workers = cores()
    title = f"looking at the {len(file):,} images of {file.path.name}"
    long = len(file) * file.each > LONG
    with (
        ThreadPoolExecutor(workers) as pool,
        Progress(title, len(file), unit="images") if long else contextlib.nullcontext() as progress,
    ):
        for chunk, some in zip(chunks, pool.map(lambda chunk: _some(whole.read(chunk)), chunks)):
            hashes.append(some)
            if progress is not None:
                progress.add(len(chunk))
    joined = np.frombuffer(b"".join(hashes), np.uint8).copy()
    return torch.from_numpy(joined).view(len(file), BYTES)


def _some(images: Tensor) -> bytes:
    return b"".join(hashlib.sha256(image.data).digest() for image in images.flatten(1).numpy())


def forget(cache: Path, prefix: str) -> None:
    """Remove what is known of files whose names begin so."""
    for path in (cache / FOLDER).glob(f"{glob.escape(prefix)}*"):
        path.unlink(missing_ok=True)


def _path(cache: Path, file: File, identity: str, question: str) -> Path:
    """Return the file of the cache that an answer belongs in."""
    key = hashlib.sha256(f"{VERSION}\n{identity}\n{question}".encode("utf-8", "surrogateescape")).hexdigest()
    return cache / FOLDER / f"{file.path.stem[:80]}-{key[:32]}"


def _write(path: Path, content: bytes) -> None:
    """Write whole or not at all; where nothing can be written, the answer is worked out again next time."""
    aside = path.with_name(f".{secrets.token_hex(8)}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(content)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
