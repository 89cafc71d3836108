"""Checkpoint: tensors and plain values of an unfinished training <-> a run's folder, whole or not at all."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as unpack
from safetensors.torch import save as pack
from torch import Tensor

from budgetnet.files.disk import discard, flush_folder, make_folder, read_whole, regular_size, write_new
from budgetnet.files.sealed import apart
from budgetnet.text import one_line

FOLDER = "checkpoints"
TENSORS, STATE = "tensors.safetensors", "state.json"
FORMAT = 1
LONGEST_STATE = 64 * 2**20
"""Bytes of the plain values that are read at most; an epoch of the history takes some 700."""
KEPT = 2
"""How many of the newest checkpoints stay."""
_HEAD = 150
"""Bytes of a tensor's name, shape and dtype in the head of a file of tensors."""
_NAMED = re.compile(r"\d{1,18}(\.\d{1,6})?", re.ASCII)
_LITTER = re.compile(r"\.[0-9]+(\.[0-9]+)?\.([0-9]+\.part|gone)")
"""Names of what a killed process left behind."""


class BadCheckpoint(ValueError):
    """A checkpoint that is not what was written: which, and why."""


@dataclass(frozen=True)
class Checkpoint:
    """What was saved after `step` steps: tensors by name, and plain values."""

    step: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    path: Path = Path()

    def unfit(self, what: str, expected: str, given: object) -> BadCheckpoint:
        """The refusal of a checkpoint that is as it was written, and holds what its run would not."""
        shown = one_line(str(given))[:80] or "empty"
        return BadCheckpoint(
            f"the checkpoint {self.path} is not one of this run: {what} should be {expected}, not {shown}; "
            "remove it, to go on from the one before it, or train anew"
        )


def save(run: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint into the folder of a run, and remove all but it and the whole one before it.

    It is written aside and flushed, and gets its name by one rename, so that what has the name is whole.
    Nothing is removed before the new one would outlast a loss of power. Raises OSError.
    """
    parent = run / FOLDER
    if parent.is_symlink():
        raise OSError(errno.ELOOP, "a link lies in the place of the folder of checkpoints", str(parent))
    if not parent.is_dir():
        if not run.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the folder is gone", str(run))
        make_folder(parent)
    packed = pack(apart(tensors))
    manifest = {"format": FORMAT, "step": step, "bytes": len(packed), "sha256": _digest(packed)}
    body = json.dumps({**manifest, "state": state}, sort_keys=True)
    sealed = json.dumps({"body": body, "sha256": _digest(body.encode())})
    target = _unused(parent, step)
    aside = parent / f".{target.name}.{os.getpid()}.part"
    try:
        discard(aside)
        os.mkdir(aside)
        write_new(aside / TENSORS, packed)
        write_new(aside / STATE, sealed.encode())
        flush_folder(aside)
        os.rename(aside, target)
    except BaseException:
        discard(aside)
        raise
    flush_folder(parent)
    _prune(parent, target)
    return target


def newest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint in the folder of a run, and a sentence for each newer one that is not."""
    bad: list[str] = []
    for path in reversed(_all(run / FOLDER)):
        try:
            return read(path), bad
        except BadCheckpoint as error:
            bad.append(str(error))
    return None, bad


def read(path: Path) -> Checkpoint:
    """The checkpoint in the folder `path`. Raises BadCheckpoint for one that is not as it was written."""
    try:
        sealed = json.loads(read_whole(path / STATE, LONGEST_STATE).decode())
        body = sealed["body"]
        if _digest(body.encode()) != sealed["sha256"]:
            raise BadCheckpoint(f"the checkpoint {path} is damaged: {STATE} is not what was written")
        sealed_state = json.loads(body)
        if sealed_state["format"] != FORMAT:
            raise BadCheckpoint(
                f"the checkpoint {path} has format {sealed_state['format']!r:.40}, and this budgetnet reads "
                f"{FORMAT}: go on with the version that wrote it"
            )
        step, state = sealed_state["step"], sealed_state["state"]
        if path.name.partition(".")[0] != _name(step):
            raise BadCheckpoint(f"the checkpoint {path} is that of step {step!r:.40}, under another's name")
        if not isinstance(state, dict):
            raise BadCheckpoint(f"the checkpoint {path} is damaged: its state is no JSON object")
        if regular_size(path / TENSORS) != sealed_state["bytes"]:
            raise BadCheckpoint(f"the checkpoint {path} is damaged: {TENSORS} has not the length written")
        packed = read_whole(path / TENSORS)
        if _digest(packed) != sealed_state["sha256"]:
            raise BadCheckpoint(f"the checkpoint {path} is damaged: {TENSORS} is not what was written")
        return Checkpoint(step, unpack(packed), state, path)
    except BadCheckpoint:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise BadCheckpoint(f"the checkpoint {path} cannot be read ({reason})") from None


def any_in(run: Path) -> bool:
    """Whether there are checkpoints, be they good or bad, in the folder of a run."""
    return bool(_all(run / FOLDER))


def remove(run: Path) -> None:
    """Remove all checkpoints of a run that needs them no more."""
    for path in _all(run / FOLDER):
        _forget(path)
    discard(run / FOLDER)


def bytes_of(tensors: int, number: int, words: int) -> int:
    """About how many bytes a checkpoint takes: of so many bytes of tensors, so many of them, and words."""
    return tensors + number * _HEAD + words


def _name(step: int) -> str:
    return f"{step:010d}"


def _unused(parent: Path, step: int) -> Path:
    """A name for the checkpoint of a step; one that is there already stays until it is pruned."""
    path, again = parent / _name(step), 0
    while os.path.lexists(path):
        again += 1
        path = parent / f"{_name(step)}.{again}"
    return path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _order(path: Path) -> tuple[int, int]:
    step, _, again = path.name.partition(".")
    return int(step), int(again or 0)


def _all(parent: Path) -> list[Path]:
    """The checkpoints' folders, oldest first; none behind a link, where others' folders may lie."""
    if os.path.islink(parent):
        return []
    with suppress(OSError):
        return sorted((parent / name for name in os.listdir(parent) if _NAMED.fullmatch(name)), key=_order)
    return []


def _prune(parent: Path, newest: Path) -> None:
    """Remove all but the checkpoint `newest` and the last whole one before it, and what was left unfinished.

    Checkpoints of later steps come from a run that this one could not or did not go on from.
    """
    kept = {newest}
    others = [path for path in _all(parent) if path != newest]
    for path in sorted((each for each in others if _order(each) < _order(newest)), key=_order, reverse=True):
        if len(kept) < KEPT and _is_whole(path):
            kept.add(path)
    for path in others:
        if path not in kept:
            _forget(path)
    with suppress(OSError):
        for name in os.listdir(parent):
            if _LITTER.fullmatch(name):
                discard(parent / name)


def _forget(path: Path) -> None:
    # The name goes first, in one rename: half a checkpoint never has one.
    aside = path.with_name(f".{path.name}.gone")
    for _ in range(2):
        discard(aside)
        with suppress(OSError):
            os.rename(path, aside)
            break
    discard(aside)


def _is_whole(path: Path) -> bool:
    try:
        read(path)
    except BadCheckpoint:
        return False
    return True
