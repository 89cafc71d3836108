"""Checkpoint: tensors and plain values of an unfinished training <-> a run's folder, whole or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as unpack
from safetensors.torch import save as pack
from torch import Tensor

from budgetnet.run import flush_folder, read_whole, regular_size

FOLDER = "checkpoints"
TENSORS, STATE = "tensors.safetensors", "state.json"
FORMAT = 1
LONGEST_STATE = 64 * 2**20
"""Bytes of the plain values that are read at most; an epoch of the history takes some 700."""
KEPT = 2
"""How many of the newest checkpoints stay."""
_LITTER = re.compile(r"\.[0-9]+\.([0-9]+\.part|gone)")
"""Names of what a killed process left behind."""


class BadCheckpoint(ValueError):
    """A checkpoint that is not what was written: which, and why."""


@dataclass(frozen=True)
class Checkpoint:
    """What was saved after `step` steps: tensors by name, and plain values."""

    step: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


def save(run: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint into the folder of a run, and remove all but the newest two. Raises OSError.

    It is written aside and flushed, and gets its name by one rename, so that what has the name is whole.
    """
    parent = run / FOLDER
    if parent.is_symlink():
        raise OSError(errno.ELOOP, "a link lies in the place of the folder of checkpoints", str(parent))
    parent.mkdir(exist_ok=True)
    target, aside = parent / _name(step), parent / f".{_name(step)}.{os.getpid()}.part"
    # safetensors wants contiguous tensors, which channels_last weights are not.
    packed = pack({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    manifest = {"format": FORMAT, "step": step, "bytes": len(packed), "sha256": _digest(packed)}
    body = json.dumps({**manifest, "state": state}, sort_keys=True)
    sealed = json.dumps({"body": body, "sha256": _digest(body.encode())})
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        _write(aside / TENSORS, packed)
        _write(aside / STATE, sealed.encode())
        flush_folder(aside)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        flush_folder(parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _prune(parent)
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
        found = json.loads(body)
        if found["format"] != FORMAT:
            raise BadCheckpoint(
                f"the checkpoint {path} has format {found['format']!r:.40}, and this budgetnet reads "
                f"{FORMAT}: go on with the version that wrote it"
            )
        step, state = found["step"], found["state"]
        if path.name != _name(step):
            raise BadCheckpoint(f"the checkpoint {path} is that of step {step!r:.40}, under another's name")
        if not isinstance(state, dict):
            raise BadCheckpoint(f"the checkpoint {path} is damaged: its state is no JSON object")
        if regular_size(path / TENSORS) != found["bytes"]:
            raise BadCheckpoint(f"the checkpoint {path} is damaged: {TENSORS} has not the length written")
        packed = read_whole(path / TENSORS)
        if _digest(packed) != found["sha256"]:
            raise BadCheckpoint(f"the checkpoint {path} is damaged: {TENSORS} is not what was written")
        return Checkpoint(step, unpack(packed), state)
    except BadCheckpoint:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise BadCheckpoint(f"the checkpoint {path} cannot be read ({reason})") from None


def remove(run: Path) -> None:
    """Remove all checkpoints of a run that needs them no more."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def _name(step: int) -> str:
    return f"{step:010d}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _all(parent: Path) -> list[Path]:
    """The checkpoints' folders, oldest first; none behind a link, where others' folders may lie."""
    if parent.is_symlink():
        return []
    with suppress(OSError):
        return sorted(path for path in parent.iterdir() if path.name.isdigit())
    return []


def _prune(parent: Path) -> None:
    for path in _all(parent)[:-KEPT]:
        # The name goes first, in one rename: half a checkpoint never has one.
        aside = path.with_name(f".{path.name}.gone")
        with suppress(OSError):
            path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    for litter in (path for path in parent.glob(".*") if _LITTER.fullmatch(path.name)):
        shutil.rmtree(litter, ignore_errors=True)
