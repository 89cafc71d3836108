"""Run and Epoch: what happened, in memory and in the run's folder."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from torch import nn

MODEL, RECORD, METRICS = "model.safetensors", "run.json", "metrics.jsonl"


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
        """The epoch that `line` holds."""
        found = json.loads(line)
        entries: dict[str, Any] = {}
        for wanted in fields(cls):
            if wanted.name in found or wanted.default is MISSING:
                held = found[wanted.name]
                entries[wanted.name] = math.nan if held is None else held
        return cls(**entries)


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
        """Make `history` the whole history, also in the folder: what came after it is trained anew."""
        self.history = list(history)
        if self.folder is not None and (history or (self.folder / METRICS).exists()):
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
            record = json.loads((path / RECORD).read_text())
        except FileNotFoundError:
            raise ValueError(
                f"a run's folder holds {RECORD}, and {path} does not; runs lie in runs/ by default"
            ) from None
        except ValueError as error:
            raise ValueError(f"{path / RECORD} should be JSON, and is not: {error}") from None
        if not isinstance(record, dict):
            raise ValueError(f"{path / RECORD} should be a run's record, a JSON object, and is not")
        lines = (path / METRICS).read_text().splitlines() if (path / METRICS).exists() else []
        try:
            history = [Epoch.read(line) for line in lines if line.strip()]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path / METRICS} should hold a line of JSON an epoch, and does not: {error}"
            ) from None
        return cls(history, path, record)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: aside, flushed to the disk, then renamed, and its folder flushed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
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
