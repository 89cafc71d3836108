"""Run and Epoch: what happened, in memory and in the run's folder."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any, Self

from torch import nn

from budgetnet.disk import append, sweep
from budgetnet.disk import flush_folder as flush_folder
from budgetnet.disk import read_whole as read_whole
from budgetnet.disk import regular_size as regular_size
from budgetnet.disk import write_whole as write_whole
from budgetnet.numbered import new_folder
from budgetnet.owner import is_owned

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
    "time": (dict, NoneType),
    "settings": (list, NoneType),
    "command": (str,),
    "described": (int,),
    "source": (dict,),
    "commit": (dict, NoneType),
    "code": (str, dict, NoneType),
}


@dataclass(frozen=True)
class Epoch:
    """One finished epoch. Accuracies in [0, 1], times in seconds, resolutions in pixels; NaN: not measured.

    `number` counts over the whole run and `epoch` within its phase, both from 1. Training figures are the
    running mean over the epoch's batches, in training mode; `lr` and `resolution` are those of its last step.
    `train_eval_*` are those of the training images in evaluation mode, after the epoch. `session` counts the
    trainings that went on from one another's weights, from 1. `pseudo_images` of the training images carry
    pseudo-labels; `pseudo_share` is the part of the unlabelled images that FixMatch was sure enough of.
    Of `train_seconds`, `data_seconds` went into fetching images and making views, `step_seconds` into
    forward, loss, backward and optimizer; `val_seconds` are those of all evaluation after it.
    `undone` of its steps left what was not finite, and were taken back (BackOff).
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
    data_seconds: float = math.nan
    step_seconds: float = math.nan
    train_eval_loss: float = math.nan
    train_eval_accuracy: float = math.nan
    test_loss: float = math.nan
    test_accuracy: float = math.nan
    pseudo_images: int = 0
    pseudo_share: float = math.nan
    session: int = 1
    undone: int = 0

    @property
    def images_per_second(self) -> float:
        """Training images a second."""
        return self.images / self.train_seconds if self.train_seconds else math.nan

    @property
    def data_share(self) -> float:
        """The part of the training time that data took; NaN where it is not known."""
        return self.data_seconds / self.train_seconds if self.train_seconds else math.nan

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

    `result` holds the final validation figures; `model` the trained model in evaluation mode; `source` the
    texts of the recipe file and of what it imports beside itself, which are written into the folder.
    `status` is "running", "finished", "paused" (at its time limit), "stopped" (by the user), "failed", or
    "interrupted": read from a folder that says "running" and that no process writes to any more.
    """

    history: list[Epoch] = field(default_factory=list)
    folder: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)
    model: nn.Module | None = None
    source: Mapping[str, str] = field(default_factory=dict, compare=False)
    _place: Path | None = field(default=None, init=False, compare=False)
    # Whether the metrics in the folder are not those of the history, since the disk did not take some.
    _behind: bool = field(default=False, init=False, compare=False)
    torn: str = field(default="", init=False, compare=False)
    """What is wrong with the metrics of a run that was read, in words."""

    def __repr__(self) -> str:
        count = f"{len(self.history)} epoch{'' if len(self.history) == 1 else 's'}"
        accuracy = self.result.get("val_accuracy")
        figure = f", {100 * accuracy:.2f} % on validation" if accuracy is not None else ""
        return f"Run({self.folder or 'in memory'}: {self.status}, {count}{figure})"

    @property
    def status(self) -> str:
        """ "running", "finished", "paused", "stopped", "failed" or "interrupted"."""
        return str(self.record.get("status", "running"))

    @property
    def started(self) -> float:
        """When it was begun, in seconds since 1970; 0 where its record does not say."""
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(str(self.record.get("started", ""))).timestamp()
        return 0.0

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

    @property
    def place(self) -> Path | None:
        """Where the folder is, whatever has become of the working directory since `settle`."""
        return self._place or self.folder

    def settle(self) -> None:
        """Remember where the folder is, for the case that the working directory changes."""
        self._place = self.folder.absolute() if self.folder is not None else None

    def note(self, **entries: Any) -> None:
        """Set entries of the record, and write it where the run has a folder. Raises OSError."""
        self.record.update(entries)
        if self.place is not None:
            text = json.dumps(self.record, indent=2, default=str) + "\n"
            write_whole(self.place / RECORD, text.encode())

    def add(self, epoch: Epoch) -> None:
        """Append a finished epoch, and one line of metrics where the run has a folder. Raises OSError.

        Lines that the disk did not take are written with the next one.
        """
        self.history.append(epoch)
        if self.place is None:
            return
        if self._behind:
            self.flush()
            return
        self._behind = True
        append(self.place / METRICS, f"{epoch.line()}\n".encode())
        self._behind = False

    def flush(self) -> None:
        """Write the metrics of the whole history so that they last, whole or not at all. Raises OSError."""
        if self.place is None or not (self.history or os.path.lexists(self.place / METRICS)):
            return
        self._behind = True
        write_whole(self.place / METRICS, "".join(f"{epoch.line()}\n" for epoch in self.history).encode())
        self._behind = False

    def rewind(self, history: Sequence[Epoch]) -> None:
        """Make `history` the whole history, also in the folder: what came after it is trained anew.

        What a killed process left half written there is swept away.
        """
        self.history = list(history)
        if self.place is not None:
            for litter in self.place.glob(".*.part"):
                sweep(litter)
        self.flush()

    @classmethod
    def new(cls, out: str | Path, name: str) -> Self:
        """A run with a new folder `out/name-N`, N the first free number; never one that exists already.

        Raises ValueError for a name that is not that of one folder.
        """
        run = cls(folder=new_folder(out, name))
        run.settle()
        return run

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """The run that lies in `folder`, without its model (`budgetnet.load(folder)` gives that).

        Of a run that is not finished, metrics that are damaged are not read; its record's notes say so. A run
        is finished where its last session is, whatever became of the record's status.
        """
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
        record["status"] = _status(record, path)
        history, torn = _history(path / METRICS)
        if torn and record["status"] == "finished":
            raise ValueError(f"{path / METRICS} should hold a line of JSON an epoch, and does not: {torn}")
        run = cls(history, path, record)
        run.torn = torn
        if torn:
            record["notes"] = [
                *record.get("notes", []),
                f"{METRICS} is damaged after epoch {len(history)}, and what follows is not read; a run that "
                "goes on (--resume) has it from its checkpoint",
            ]
        return run


def _status(record: Mapping[str, Any], folder: Path) -> str:
    """The status that a record tells of; of a run that nobody writes to any more, "interrupted"."""
    status, sessions = str(record.get("status", "running")), record.get("sessions", [])
    if status == "finished" and sessions:
        # Both are written at once: one that was edited does not make a run finished, and its checkpoints
        # needless.
        status = str(sessions[-1].get("status", "running"))
    return "interrupted" if status == "running" and not is_owned(folder) else status


def _history(path: Path) -> tuple[list[Epoch], str]:
    """The epochs in a file of metrics up to the first line that is none, and what is wrong with that."""
    try:
        content = read_whole(path, LONGEST_METRICS)
    except FileNotFoundError:
        return [], ""
    except (OSError, ValueError) as error:
        return [], str(error)
    found: list[Epoch] = []
    try:
        for line in content.split(b"\n"):
            if line.strip():
                found.append(Epoch.read(line.decode()))
                if found[-1].number != len(found):
                    raise ValueError(f"epoch {len(found)} has the number {found.pop().number}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return found, str(error) or type(error).__name__
    return found, ""


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
    return beyond(record)


def beyond(record: Any) -> str:
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
