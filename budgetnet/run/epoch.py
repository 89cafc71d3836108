"""Epoch and Note: what a training tells as it goes: the figures of an epoch, and sentences worth knowing."""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Self

HIGHEST = 2**256
"""Whole numbers of a record are below it."""
MEASURED = ("val_", "test_", "train_eval_")
"""How the names of figures begin that metrics may have."""
_PLAIN = {"resume", "labels", "early", "end"}
"""Kinds that say how a run goes, and are shown without the word "note" before them."""


@dataclass(frozen=True)
class Epoch:
    """One finished epoch. Accuracies in [0, 1], times in seconds, resolutions in pixels; NaN: not measured.

    `number` counts over the whole run and `epoch` within its phase, both from 1. Training figures are the
    running mean over the epoch's batches, in training mode; `lr` and `resolution` are those of its last
    step. `train_eval_*` are those of the training images in evaluation mode, after the epoch. `session`
    counts the trainings that went on from one another's weights, from 1. `pseudo_images` of the training
    images carry pseudo-labels; `pseudo_share` is the part of the unlabelled images that FixMatch was sure
    enough of. Of `train_seconds`, `data_seconds` went into fetching images and making views, `step_seconds`
    into teachers, forward, loss, backward and optimizer; `val_seconds` are those of all evaluation after it.
    `undone` of its steps left what was not finite, and were taken back (BackOff). `metrics` are the figures
    of the recipe's metrics, as "val_f1" or, for each class, "val_f1.cat"; `measure` gives them too.
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
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def images_per_second(self) -> float:
        """Training images a second."""
        return self.images / self.train_seconds if self.train_seconds else math.nan

    @property
    def data_share(self) -> float:
        """The part of the training time that data took; NaN where it is not known."""
        return self.data_seconds / self.train_seconds if self.train_seconds else math.nan

    def measure(self, name: str) -> float:
        """The figure called `name`, such as "val_loss", or of a metric; NaN where it was not measured."""
        if name.startswith(MEASURED) and not hasattr(self, name):
            return self.metrics.get(name, math.nan)
        return float(getattr(self, name))

    def line(self) -> str:
        """One line of JSON; NaN and infinities as null."""
        entries = {k: _finite(v) for k, v in asdict(self).items() if k != "metrics"}
        if self.metrics:
            entries["metrics"] = {name: _finite(figure) for name, figure in self.metrics.items()}
        return json.dumps({**entries, "images_per_second": _finite(round(self.images_per_second, 3))})

    @classmethod
    def read(cls, line: str) -> Self:
        """The epoch that `line` holds. Raises ValueError, KeyError or TypeError for what is none."""
        words = json.loads(line)
        entries: dict[str, Any] = {}
        for each in fields(cls):
            required = each.default is MISSING and each.default_factory is MISSING
            if each.name == "metrics":
                figures = words.get("metrics", {})
                entries["metrics"] = {name: _typed(name, float, figures[name]) for name in figures}
            elif each.name in words or required:
                entries[each.name] = _typed(each.name, each.type, words[each.name])
        return cls(**entries)


@dataclass(frozen=True)
class Note:
    """A sentence `text` for people, and its `kind` for programs.

    The kinds are "check" (found before the first step), "bits" (the last bits may differ from those of an
    uninterrupted run), "change" (what a changed recipe begins anew), "resume" (where a run goes on), "labels"
    (pseudo-labels that join a phase), "early" (an early stop), "undone" (a step that was taken back),
    "memory" and "speed" (batches in parts; a model that is not compiled), "guard" (what its figures show),
    "disk" (what could not be written), "watch" (a watcher that failed) and "end" (how the run ended).
    """

    kind: str
    text: str

    @property
    def plain(self) -> bool:
        """Whether it only says how this one run goes."""
        return self.kind in _PLAIN

    def __str__(self) -> str:
        return self.text if self.plain else f"note: {self.text}"


def _typed(name: str, kind: Any, value: Any) -> Any:
    """A figure of an epoch as JSON gave it, where it is of the field's type; null is NaN."""
    if kind is float and value is None:
        return math.nan
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < HIGHEST
    if not (whole if kind is int else whole or isinstance(value, float) if kind is float else _text(value)):
        raise ValueError(f"its {name} should be {kind.__name__}, and is {value!r:.40}")
    return value


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
