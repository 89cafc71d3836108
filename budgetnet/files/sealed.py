"""Sealed files: tensors and some words in one safetensors file that shows when it is not what was written."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import load as unpack
from safetensors.torch import save as pack
from torch import Tensor

from budgetnet.files.disk import read_whole, regular_size
from budgetnet.text import one_line

ENTRY = "budgetnet"
"""The entry of a safetensors file's metadata that holds the words, as a JSON object."""
LONGEST_HEAD = 4 * 2**20
"""Bytes of names, shapes and words together."""
MOST_TENSORS = 10_000
"""How many tensors a file may hold, however small: the largest networks of today have some thousands."""
LONGEST_WORDS = 2**20
"""Characters of the words."""

_SEALS = ("sha256", "data_sha256")
_BLANK = "0" * 64
_DIGEST = re.compile("[0-9a-f]{64}")


class Damaged(ValueError):
    """A file that is not what was written, or never was one: which, and why."""


@dataclass(frozen=True)
class Stored:
    """What a file says of its tensors, before any of them is read: `words`, and each one's shape and dtype.

    `words` is None in a file of another program. `kinds` are safetensors' names of dtypes, such as "F32".
    `sealed` says that names, shapes and words are as they were written; a file from before seals is not.
    `wrapper` is what stands before every name in the file, and is left out here.
    """

    path: Path
    words: dict[str, Any] | None
    shapes: Mapping[str, list[int]]
    kinds: Mapping[str, str]
    head: bytes
    data_sha256: str | None
    wrapper: str = ""

    @property
    def sealed(self) -> bool:
        """Whether the file carries digests; those of its head were found right."""
        return self.data_sha256 is not None

    def without(self, wrapper: str) -> Self:
        """The same with names that lack the `wrapper` that each of them begins with."""
        shapes = {name.removeprefix(wrapper): shape for name, shape in self.shapes.items()}
        kinds = {name.removeprefix(wrapper): kind for name, kind in self.kinds.items()}
        return replace(self, shapes=shapes, kinds=kinds, wrapper=wrapper)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name. Raises Damaged where they are not those that were written, and OSError."""
        content = read_whole(self.path)
        start = len(self.head)
        if content[:start] != self.head:
            raise Damaged(f"{self.path} was replaced while it was read: read it again")
        if self.data_sha256 is not None and _sha256(memoryview(content)[start:]) != self.data_sha256:
            raise Damaged(f"{self.path} is damaged: its tensors are not those that were written")
        try:
            tensors: dict[str, Tensor] = unpack(content)
        except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{self.path} holds tensors that cannot be read: {_brief(error)}") from None
        return {name.removeprefix(self.wrapper): tensor for name, tensor in tensors.items()}


def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as a file takes them: on the CPU, without gaps, and none in the memory of another."""
    by_name: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        # channels_last weights are not contiguous.
        own = tensor.detach().cpu().contiguous()
        memory = own.untyped_storage()._cdata
        by_name[name] = own.clone() if memory in taken else own
        taken.add(memory)
    return by_name


def metadata(words: Mapping[str, Any]) -> dict[str, str]:
    """JSON-able words as the metadata of a safetensors file, with blanks where digests will stand."""
    return {ENTRY: json.dumps({**dict.fromkeys(_SEALS, _BLANK), **words})}


def seal(tensors: Mapping[str, Tensor], words: Mapping[str, Any]) -> bytes:
    """Contiguous tensors on the CPU and JSON-able words as the bytes of a safetensors file with its digests.

    One digest is that of the tensors' bytes, the other that of all before them, itself left blank; so no bit
    can change unseen. Raises ValueError for more names or words than `read_sealed` takes.
    """
    if len(tensors) > MOST_TENSORS:
        raise ValueError(
            f"a file takes {MOST_TENSORS:,} tensors, found {len(tensors):,}: save a part at a time"
        )
    described = metadata(words)
    text = described[ENTRY]
    content = bytearray(pack(dict(tensors), described))
    start = 8 + int.from_bytes(content[:8], "little")
    if start > LONGEST_HEAD or len(text) > LONGEST_WORDS:
        raise ValueError(
            f"a file takes {LONGEST_WORDS:,} characters of description and {LONGEST_HEAD:,} bytes with the "
            f"tensors' names, found {len(text):,} and {start:,}: shorten the classes' names, or save less"
        )
    # The words come first in the file, and the two blanks first among them.
    of_head = content.index(_BLANK.encode())
    of_data = content.index(_BLANK.encode(), of_head + len(_BLANK))
    with memoryview(content) as view:
        view[of_data : of_data + len(_BLANK)] = _sha256(view[start:]).encode()
        view[of_head : of_head + len(_BLANK)] = _sha256(view[:start]).encode()
    return bytes(content)


def read_sealed(path: Path) -> Stored:
    """What the file at `path` says of itself; no tensor is read, and memory is bounded.

    Raises Damaged for what is no safetensors file and for one whose head is not as it was written, and
    OSError for a file that cannot be read.
    """
    size = regular_size(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, LONGEST_HEAD):
            raise Damaged(
                f"{path} should be a safetensors file, and is not: its header would have {length:,} bytes, "
                f"of {size:,} in all and {LONGEST_HEAD:,} at most"
            )
        file.seek(0)
        head = file.read(8 + length)
    try:
        with safe_open(path, framework="pt") as stored:
            told = stored.metadata() or {}
            text = told.get(ENTRY)
            if text is None and any(f'"{_SEALS[0]}"' in each for each in told.values()):
                raise Damaged(f"{path} is damaged: its description should be called {ENTRY!r}, and is not")
            names = list(stored.keys())
            if len(names) > MOST_TENSORS:
                raise Damaged(f"{path} holds {len(names):,} tensors, and {MOST_TENSORS:,} are taken at most")
            slices = {name: stored.get_slice(name) for name in names}
            shapes = {name: list(tensor_slice.get_shape()) for name, tensor_slice in slices.items()}
            kinds = {name: str(tensor_slice.get_dtype()) for name, tensor_slice in slices.items()}
    except Damaged:
        raise
    except (SafetensorError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise Damaged(f"{path} should be a safetensors file, and is not: {_brief(error)}") from None
    words = None if text is None else _words(text, path)
    digest = None if words is None else _unsealed(words, head, path)
    return Stored(path, words, shapes, kinds, head, digest)


def _words(text: str, path: Path) -> dict[str, Any]:
    if len(text) > LONGEST_WORDS:
        raise Damaged(f"{path} describes itself in {len(text):,} characters, and {LONGEST_WORDS:,} are taken")
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, dict):
        raise Damaged(f"{path} is damaged: its description should be a JSON object, and is not")
    return words


def _unsealed(words: dict[str, Any], head: bytes, path: Path) -> str | None:
    """Take the digests out of `words`, the one of the head after a check; gives the one of the tensors."""
    if not any(name in words for name in _SEALS):
        return None
    of_head, of_data = (words.pop(name, None) for name in _SEALS)
    for digest in (of_head, of_data):
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise Damaged(f"{path} is damaged: its digests are not whole")
    written = of_head.encode()
    if head.count(written) != 1 or _sha256(head.replace(written, _BLANK.encode())) != of_head:
        raise Damaged(f"{path} is damaged: its names, shapes or description are not what was written")
    return str(of_data)


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def _brief(error: Exception) -> str:
    return one_line(str(error)) or type(error).__name__
