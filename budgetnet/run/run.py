"""Run: the history of one training, in memory and in its folder."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Self

from torch import nn

from budgetnet.files import append, discard, is_locked, new_folder, read_whole, write_whole
from budgetnet.pictures import NoTemplates, Sketch, charts_figure, rendered
from budgetnet.run.curves import curves
from budgetnet.run.epoch import Epoch
from budgetnet.run.record import wrong
from budgetnet.text import counted, duration, frame, percent

MODEL, RECORD, METRICS = "model.safetensors", "run.json", "metrics.jsonl"
UNFINISHED = ("running", "paused", "stopped", "failed", "interrupted")
EARLY = "ended early"
"""The status of a run that whoever trained it ended before its recipe's end; `Run.end` gives others."""
LONGEST_RECORD, LONGEST_METRICS = 2 * 2**20, 64 * 2**20
"""Bytes of the two files that are read at most; an epoch takes some 700."""


@dataclass(repr=False)
class Run:
    """The history of one training: its epochs, its final figures and, where it has one, its folder.

    `result` holds the final validation figures; `model` the trained model in evaluation mode; `source` the
    texts of the recipe file and of what it imports beside itself, which are written into the folder.
    `status` is "running", "finished", "paused" (at its time limit), "stopped" (by the user), "failed",
    "interrupted": read from a folder that says "running" and that no process writes to any more; or "ended
    early", by a `break` out of its epochs or an error in the loop over them, or what `end` was given instead.
    """

    history: list[Epoch] = field(default_factory=list)
    folder: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)
    model: nn.Module | None = None
    source: Mapping[str, str] = field(default_factory=dict, compare=False)
    _place: Path | None = field(default=None, init=False, compare=False)
    # Whether the metrics in the folder are not those of the history, since the disk did not take some.
    _behind: bool = field(default=False, init=False, compare=False)
    ending: str = field(default="", init=False, compare=False)
    """The status that `end` asks for, while it is trained."""
    torn: str = field(default="", init=False, compare=False)
    """What is wrong with the metrics of a run that was read, in words."""

    def __repr__(self) -> str:
        accuracy = self.result.get("val_accuracy")
        figure = f", {100 * accuracy:.2f} % on validation" if accuracy is not None else ""
        return f"Run({self.folder or 'in memory'}: {self.status}, {self.progress}{figure})"

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each epoch. Raises ValueError where there is no pandas."""
        rows = [
            {**asdict(epoch), **epoch.metrics, "images_per_second": epoch.images_per_second}
            for epoch in self.history
        ]
        return frame([{name: figure for name, figure in row.items() if name != "metrics"} for row in rows])

    @property
    def status(self) -> str:
        """ "running", "finished", "paused", "stopped", "failed", "interrupted", or how it was ended early."""
        return str(self.record.get("status", "running"))

    def plot(self) -> Any:
        """Accuracy, loss, learning rate and resolution over the epochs, as a figure of matplotlib.

        A notebook shows it; `run.plot().savefig("curves.pdf")` keeps it. Raises `NoPlot` (a ValueError)
        without matplotlib or any finished epoch.
        """
        return charts_figure(curves({"": [self]}))

    def _repr_html_(self) -> str:
        """How a notebook shows it: where it lies, its figures, and its curves."""
        sketches = [Sketch(chart) for chart in curves({"": [self]})]
        try:
            return rendered("run.html", run=self, sketches=sketches, percent=percent, duration=duration)
        except NoTemplates:
            return f"<pre>{escape(repr(self))}</pre>"

    @property
    def early(self) -> bool:
        """Whether whoever trained it ended it before its recipe's end."""
        return self.over and self.status != "finished"

    @property
    def over(self) -> bool:
        """Whether it has its final weights and figures, be it early: nothing goes on with it."""
        return self.status not in UNFINISHED and _word(self.status)

    @property
    def progress(self) -> str:
        """How far it came, "1 of 5 epochs"; of a finished run, which may have stopped earlier, "5 epochs"."""
        done, planned = len(self.history), self.record.get("planned")
        if self.status == "finished" or planned is None:
            return counted(done, "epoch")
        return f"{done:,} of {counted(planned, 'epoch')}"

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
        validated = [epoch for epoch in self.history if not math.isnan(epoch.val_accuracy)]
        return max(validated, key=lambda epoch: (epoch.val_accuracy, -epoch.val_loss), default=None)

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

    def described(self) -> dict[str, Any]:
        """Folder, status, epochs and final figures as plain JSON values."""
        return {
            "run": None if self.folder is None else self.folder.as_posix(),
            "status": self.status,
            "seed": self.record.get("seed"),
            "epochs": len(self.history),
            "planned": self.record.get("planned"),
            "result": dict(self.result),
        }

    def end(self, why: str = EARLY) -> None:
        """End the training after the epoch at hand, as a `break` does, with the status `why`.

        ::

            for epoch in trainer.epochs(model, data, recipe, run):
                if epoch.number == 5 and epoch.val_accuracy < 0.3:
                    run.end("pruned")

        A run that has ended already gets this status. Raises ValueError for one that can go on.
        """
        if not _word(why) or why in (*UNFINISHED, "finished"):
            raise ValueError(
                f'a run should be ended with a word of your own, such as "pruned", not {why!r:.60}; '
                f"finished, {', '.join(UNFINISHED)} are budgetnet's"
            )
        if self.status == "running" and (self.folder is None or self._place is not None):
            self.ending = why
        elif self.over:
            sessions = self.record.get("sessions") or [{}]
            self.note(status=why, sessions=[*sessions[:-1], {**sessions[-1], "status": why}])
        else:
            raise ValueError(
                f"a run is ended by the process that trains it, or when it is over, and the one in "
                f"{self.folder} is {self.status}; go on with it first (resume=)"
            )

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
                discard(litter)
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
        if fault := wrong(record):
            raise ValueError(f"{path / RECORD} should be a run's record, a JSON object, and {fault}")
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

    @classmethod
    def beside(cls, file: Path) -> Self:
        """What the files beside a model file without a folder of its own tell of its run, as those of the
        models that come along do: NAME.json and NAME.metrics.jsonl. Nothing where there are none."""
        try:
            record = json.loads(read_whole(file.with_suffix(".json"), LONGEST_RECORD).decode())
        except (OSError, ValueError, RecursionError):
            record = {}
        history, _ = _history(file.with_suffix(f".{METRICS}"))
        return cls(history, None, {} if wrong(record) else record)


def _word(status: object) -> bool:
    """Whether it may be a status: a short word or two that can be shown."""
    return (
        isinstance(status, str)
        and status.strip() == status != ""
        and status.isprintable()
        and len(status) <= 40
    )


def _status(record: Mapping[str, Any], folder: Path) -> str:
    """The status that a record tells of; of a run that nobody writes to any more, "interrupted"."""
    status, sessions = str(record.get("status", "running")), record.get("sessions", [])
    if status == "finished" and sessions:
        # Both are written at once: one that was edited does not make a run finished, and its checkpoints
        # needless.
        status = str(sessions[-1].get("status", "running"))
    return "interrupted" if status == "running" and not is_locked(folder) else status


def _history(path: Path) -> tuple[list[Epoch], str]:
    """The epochs in a file of metrics up to the first line that is none, and what is wrong with that."""
    try:
        content = read_whole(path, LONGEST_METRICS)
    except FileNotFoundError:
        return [], ""
    except (OSError, ValueError) as error:
        return [], str(error)
    epochs: list[Epoch] = []
    try:
        for line in content.split(b"\n"):
            if line.strip():
                epochs.append(Epoch.read(line.decode()))
                if epochs[-1].number != len(epochs):
                    raise ValueError(f"epoch {len(epochs)} has the number {epochs.pop().number}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return epochs, str(error) or type(error).__name__
    return epochs, ""
