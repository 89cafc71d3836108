"""Formats: what each kind of exported file is called, what it needs, and what it says of itself."""

from __future__ import annotations

import hashlib
import importlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Literal

from budgetnet.text import one_line

FormatName = Literal["onnx", "pt2", "executorch", "litert", "c"]
KEYS = ("card", "preprocess", "versions")
"""What an exported file says of itself, each as JSON."""
_DIGITS = 64
_ONNX_SEAL = b"\x72\x4a\x0a\x06sha256\x12\x40"
"""An entry of an ONNX model's metadata, of which 64 bytes are to follow."""


class Unusable(ValueError):
    """A package that is installed and cannot be imported."""


@dataclass(frozen=True)
class Format:
    """Files that end in `suffix`; the extra `extra` brings the packages that write them and that run them.

    `any_number` is whether such a file can take any number of images at once, and `int8` whether it can have
    eight bits throughout. `title` is what people call the format.
    """

    title: str
    suffix: str
    extra: str = ""
    writers: tuple[str, ...] = ()
    runners: tuple[str, ...] = ()
    any_number: bool = False
    int8: bool = True

    @property
    def packages(self) -> tuple[str, ...]:
        """All that such files take to be written, as they are imported."""
        return (*self.runners, *self.writers)


_LITERT = Format("LiteRT", ".tflite", "litert", ("litert_torch", "torchao"), ("ai_edge_litert",))
FORMATS: Mapping[str, Format] = {
    "onnx": Format("ONNX", ".onnx", "onnx", ("onnx", "onnxscript"), ("onnxruntime",), any_number=True),
    "pt2": Format("torch.export", ".pt2", any_number=True, int8=False),
    "executorch": Format("ExecuTorch", ".pte", "executorch", ("torchao",), ("executorch",)),
    "litert": _LITERT,
    # A program of LiteRT as an array, for its interpreter for microcontrollers.
    "c": replace(_LITERT, title="LiteRT in C", suffix=".c"),
}
SUFFIXES = tuple(form.suffix for form in FORMATS.values())


def of_suffix(suffix: str) -> Format:
    """The format of files that end so; ONNX for others."""
    return next((form for form in FORMATS.values() if form.suffix == suffix), FORMATS["onnx"])


def check_installed(form: Format, *, writing: bool = True) -> None:
    """Raise ValueError where what such files take, to be written or to be run, is missing."""
    missing = [name for name in (form.packages if writing else form.runners) if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{form.title} files need {', '.join(missing)}, not found here: "
            f"pip install 'budgetnet[{form.extra}]'"
        )


def imported(form: Format, module: str) -> Any:
    """A module of another package. Raises Unusable where it is there and cannot be imported."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        # What was compiled for another version of torch ends here.
        raise Unusable(
            f"{module} is installed and cannot be imported ({one_line(str(error))}): install it anew beside "
            f"this torch, or in an environment of its own (pip install 'budgetnet[{form.extra}]')"
        ) from None


def sealed(content: bytes, form: Format) -> bytes:
    """A file's content, which from now on ends in the SHA-256 of all before, where its format ignores it."""
    if form.extra == "onnx":
        head = content + _ONNX_SEAL
    else:
        # The comment of a zip archive: it had none, and its length stands in the last two bytes.
        head = content[:-2] + _DIGITS.to_bytes(2, "little")
    return head + hashlib.sha256(head).hexdigest().encode()


def seal_of(content: bytes) -> str:
    """The SHA-256 that a sealed content ends in."""
    return content[-_DIGITS:].decode()


def is_sealed(content: bytes) -> bool:
    """Whether a content is, byte for byte, what `sealed` gave."""
    return hashlib.sha256(content[:-_DIGITS]).hexdigest().encode() == content[-_DIGITS:]


def with_words(content: bytes, words: Mapping[str, str]) -> bytes:
    """A program of ExecuTorch or LiteRT, with a zip archive of JSON files behind it, which both ignore.

    That is how .tflite files carry their metadata; `unzip -p model.tflite card.json` shows one.
    """
    archive = io.BytesIO(content)
    with zipfile.ZipFile(archive, "a") as opened:
        for name, text in words.items():
            # A fixed date, for the same file every time.
            opened.writestr(zipfile.ZipInfo(f"{name}.json"), text)
    return archive.getvalue()


def words_behind(content: bytes, keys: Sequence[str] = KEYS) -> dict[str, str]:
    """What `with_words` put behind a program."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        names = set(opened.namelist())
        return {key: opened.read(f"{key}.json").decode() for key in keys if f"{key}.json" in names}
