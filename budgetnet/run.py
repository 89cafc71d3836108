"""Run and Epoch: what happened, in memory and in the run's folder."""

import errno
import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Self

from torch import nn

MODEL, RECORD, METRICS = "model.safetensors", "run.json", "metrics.jsonl"
LONGEST_RECORD, LONGEST_METRICS = 2 * 2**20, 64 * 2**20
"""Bytes of the two files that are read at most; an epoch takes some 700."""
_HIGHEST = 2**256
_DEEPEST = 40
_RECORDED: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("status", "started", "ended", "recipe_file", "error", "precision", "device"), (str,)),
    **dict.fromkeys(("external", "after"), (str, NoneType)),
    **dict.fromkeys(("recipe", "data", "model", "versions", "result"), (dict,)),
    **dict.fromkeys(("notes", "sessions", "test_uses"), (list,)),
    **dict.fromkeys(("seed", "threads"), (int, NoneType)),
    **dict.fromkeys(("scale", "seconds_before"), (int, float, NoneType)),
    "budget": (dict, NoneType),
    "settings": (list, NoneType),
}


@dataclass(frozen=True)
class Epoch:
    """One finished epoch. Accuracies in [0, 1], times in seconds, resolutions in pixels; NaN: not measured.

    `number` counts over the whole run and `epoch` within its phase, both from 1. Training figures are the
    running mean over the epoch's batches, in training mode; `lr` and `resolution` are those of its last step.
    `train_eval_*` are those of the training images in evaluation mode, after the epoch. `session` counts the
    trainings that went on from one another's weights, from 1. `pseudo_images` of the training images carry
    pseudo-labels; `pseudo_share` is the part of the unlabelled images that FixMatch was sure enough of.
    """

    number: int
    phase: int
    name: str
    epoch: int
    epochs: int
    steps: int
    images: int
    lr: float
    resolution: int
    train_loss: float
    train_accuracy: float
    train_seconds: float
    val_loss: float = math.nan
    val_accuracy: float = math.nan
    val_seconds: float = 0.0
    train_eval_loss: float = math.nan
    train_eval_accuracy: float = math.nan
    test_loss: float = math.nan
    test_accuracy: float = math.nan
    pseudo_images: int = 0
    pseudo_share: float = math.nan
    session: int = 1

    @property
    def images_per_second(self) -> float:
        """Training images a second."""
        return self.images / self.train_seconds if self.train_seconds else math.nan

    def measure(self, name: str) -> float:
        """The figure called `name`, such as "val_loss"."""
        return float(getattr(self, name))

    def line(self) -> str:
        """One line of JSON; NaN and infinities as null."""
        entries = {k: _finite(v) for k, v in asdict(self).items()}
        return json.dumps({**entries, "images_per_second": _finite(round(self.images_per_second, 3))})

    @classmethod
    def read(cls, line: str) -> Self:
        """The epoch that `line` holds. Raises ValueError, KeyError or TypeError for what is none."""
        found = json.loads(line)
        entries: dict[str, Any] = {}
        for wanted in fields(cls):
            if wanted.name in found or wanted.default is MISSING:
                entries[wanted.name] = _typed(wanted.name, wanted.type, found[wanted.name])
        return cls(**entries)


def _typed(name: str, kind: Any, held: Any) -> Any:
    """A figure of an epoch as JSON gave it, where it is of the field's type; null is NaN."""
    if kind is float and held is None:
        return math.nan
    whole = isinstance(held, int) and not isinstance(held, bool) and abs(held) < _HIGHEST
    if not (whole if kind is int else whole or isinstance(held, float) if kind is float else _text(held)):
        raise ValueError(f"its {name} should be {kind.__name__}, and is {held!r:.40}")
    return held


def _text(held: Any) -> bool:
    return isinstance(held, str)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(repr=False)
class Run:
    """The history of one training: its epochs, its final figures and, where it has one, its folder.

    `result` holds the final validation figures; `model` the trained model in evaluation mode.
    `status` is "running", "finished", "paused" (at its time limit), "stopped" (by the user) or "failed".
    """

    history: list[Epoch] = field(default_factory=list)
    folder: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)
    model: nn.Module | None = None

    def __repr__(self) -> str:
        count = f"{len(self.history)} epoch{'' if len(self.history) == 1 else 's'}"
        accuracy = self.result.get("val_accuracy")
        figure = f", {100 * accuracy:.2f} % on validation" if accuracy is not None else ""
        return f"Run({self.folder or 'in memory'}: {self.status}, {count}{figure})"

    @property
    def status(self) -> str:
        """ "running", "finished", "paused", "stopped" or "failed"."""
        return str(self.record.get("status", "running"))

    @property
    def result(self) -> Mapping[str, Any]:
        """The kept weights' figures: val_accuracy, val_loss, epoch, seconds, and test's."""
        result: Mapping[str, Any] = self.record.get("result", {})
        return result

    @property
    def best(self) -> Epoch | None:
        """The epoch of the highest validation accuracy (lowest loss among equals), if any."""
        found = [epoch for epoch in self.history if not math.isnan(epoch.val_accuracy)]
        return max(found, key=lambda epoch: (epoch.val_accuracy, -epoch.val_loss), default=None)

    def note(self, **entries: Any) -> None:
        """Set entries of the record, and write it where the run has a folder."""
        self.record.update(entries)
        if self.folder is not None:
            text = json.dumps(self.record, indent=2, default=str) + "\n"
            write_whole(self.folder / RECORD, text.encode())

    def add(self, epoch: Epoch) -> None:
        """Append a finished epoch, and one line of metrics where the run has a folder."""
        self.history.append(epoch)
        if self.folder is not None:
            with (self.folder / METRICS).open("a") as lines:
                lines.write(epoch.line() + "\n")

    def rewind(self, history: Sequence[Epoch]) -> None:
        """Make `history` the whole history, also in the folder: what came after it is trained anew.

        What a killed process left half written there is swept away.
        """
        self.history = list(history)
        if self.folder is not None:
            for litter in self.folder.glob(".*.part"):
                litter.unlink(missing_ok=True)
        if self.folder is not None and (history or os.path.lexists(self.folder / METRICS)):
            write_whole(self.folder / METRICS, "".join(f"{epoch.line()}\n" for epoch in history).encode())

    @classmethod
    def new(cls, out: str | Path, name: str) -> Self:
        """A run with a new folder `out/name-N`, N the first free number; never one that exists already."""
        return cls(folder=_new_folder(out, name))

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """The run that lies in `folder`, without its model (`budgetnet.load(folder)` gives that)."""
        path = Path(folder)
        try:
            record = json.loads(read_whole(path / RECORD, LONGEST_RECORD).decode())
        except FileNotFoundError:
            raise ValueError(
                f"a run's folder holds {RECORD}, and {path} does not; runs lie in runs/ by default"
            ) from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path / RECORD} should be JSON, and is not: {error}") from None
        wrong = _wrong(record)
        if wrong:
            raise ValueError(f"{path / RECORD} should be a run's record, a JSON object, and {wrong}")
        return cls(_history(path / METRICS), path, record)


def _history(path: Path) -> list[Epoch]:
    """The epochs in a file of metrics, none where it is not there. Raises ValueError for one that is none."""
    try:
        content = read_whole(path, LONGEST_METRICS)
    except FileNotFoundError:
        return []
    try:
        return [Epoch.read(line) for line in content.decode().splitlines() if line.strip()]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} should hold a line of JSON an epoch, and does not: {error}") from None


def _wrong(record: Any) -> str:
    """What of a record is not as a trainer writes it, in words; "" for a good one."""
    if not isinstance(record, dict):
        return "is not"
    for name, kinds in _RECORDED.items():
        held = record.get(name, kinds[0]())
        if not isinstance(held, kinds) or isinstance(held, bool):
            return f"its {name} should be {_KINDS[kinds[0]]}, not {held!r:.60}"
    for name, held in record.get("result", {}).items():
        if isinstance(held, bool) or not isinstance(held, int | float | NoneType):
            return f"its result's {name:.40} should be a number, not {held!r:.60}"
    for session in record.get("sessions", []):
        if not isinstance(session, dict) or not isinstance(session.get("seconds", 0.0), int | float):
            return f"its sessions should be objects with seconds, not {session!r:.60}"
    return _beyond(record)


def _beyond(record: Any) -> str:
    """What of a JSON value is larger or deeper than whatever shows it could bear, in words; "" for none."""
    waiting = [(record, 1)]
    while waiting:
        held, depth = waiting.pop()
        if isinstance(held, int) and abs(held) >= _HIGHEST:
            return f"{str(held)[:20]}... is larger than any number here"
        if isinstance(held, dict | list):
            if depth > _DEEPEST:
                return f"is nested deeper than {_DEEPEST} levels"
            waiting += [(item, depth + 1) for item in (held.values() if isinstance(held, dict) else held)]
    return ""


_KINDS = {str: "text", dict: "an object", list: "a list", int: "a whole number", float: "a number"}


def regular_size(path: Path) -> int:
    """The bytes of a file. Raises OSError where there is none, and for a pipe or device, which has no end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "this is no regular file", str(path))
    return found.st_size


def read_whole(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file. Raises OSError, and ValueError for one of more than `most` bytes."""
    size = regular_size(path)
    if most is not None and size > most:
        raise ValueError(f"{path} has {size:,} bytes, and at most {most:,} are read")
    with path.open("rb") as file:
        return file.read(size)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: aside, flushed to the disk, then renamed, and its folder flushed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.unlink(missing_ok=True)
        # Exclusively: a link that lies there under this name leads nowhere.
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make what was renamed or removed in a folder last, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_folder(out: str | Path, name: str) -> Path:
    parent = Path(out)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            try:
                folder = parent / f"{name}-{number}"
                folder.mkdir()
                return folder
            except FileExistsError:
                number += 1
    except OSError as error:
        raise ValueError(
            f"a run's folder cannot be made in {parent}: {error.strerror}; choose another with out= (--out)"
        ) from None
