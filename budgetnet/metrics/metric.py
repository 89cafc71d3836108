"""Metric: a figure of a model's answers that a recipe or an evaluation asks for, under a name."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

Answers: TypeAlias = Callable[[Tensor, Tensor], Any]
"""(logits (N, K), labels (N,)), both on the CPU -> a number, or one for each of the K classes."""

_NAME = re.compile(r"[A-Za-z_]\w{0,59}")
_TAKEN = ("loss", "accuracy", "seconds", "top5", "images", "resolution")
"""What is kept of every evaluation."""


@runtime_checkable
class Called(Protocol):
    """A metric that says what it is called."""

    @property
    def name(self) -> str:
        """Its name, such as "f1"."""


@runtime_checkable
class Resettable(Protocol):
    """A metric that remembers what it was shown, as torchmetrics' do."""

    def reset(self) -> object:
        """Forget all of it."""


@dataclass(frozen=True)
class Metric:
    """Any function of logits (N, K) and labels (N,) under a `name` of its own.

    ::

        Metric("mcc", lambda logits, labels: matthews_corrcoef(labels, logits.argmax(1)))
    """

    name: str
    of: Answers

    def __post_init__(self) -> None:
        if not callable(self.of):
            raise ValueError(f"Metric's function should be callable, not {self.of!r:.100}")
        metric_name(self)

    def __call__(self, logits: Tensor, labels: Tensor) -> Any:
        return self.of(logits, labels)


def metric_name(metric: object) -> str:
    """What a metric's figure is called: its own `name`, else that of the function or class.

    Raises ValueError for what has no name that can be typed.
    """
    inner = metric.func if isinstance(metric, functools.partial) else metric
    own = inner.name if isinstance(inner, Called) else getattr(inner, "__name__", type(inner).__name__)
    if not isinstance(own, str) or not _NAME.fullmatch(own) or own in _TAKEN or own.startswith("plain_"):
        raise ValueError(
            f"a metric's name should be a word of its own, such as 'f1', not {own!r:.60}; give it one: "
            "Metric('mine', function)"
        )
    return own


def metrics_of(figures: Mapping[str, float | None], split: str) -> dict[str, float]:
    """The metrics of a split, by their own names, among the figures of an epoch or of a run's result."""
    whole = {
        name.removeprefix(f"{split}_"): figures[name] for name in figures if name.startswith(f"{split}_")
    }
    own = {
        name: figure for name, figure in whole.items() if not (name in _TAKEN or name.startswith("plain_"))
    }
    return {name: figure for name, figure in own.items() if figure is not None}


def metrics_text(figures: Mapping[str, float | None], split: str) -> str:
    """The metrics of a split as they stand behind its accuracy, without those of each class."""
    return "".join(f"  {name} {v:.4f}" for name, v in metrics_of(figures, split).items() if "." not in name)


def check_metrics(owner: str, metrics: object) -> tuple[Answers, ...]:
    """The metrics as a tuple. Raises ValueError for what is none, or has the name of another."""
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        raise ValueError(f"{owner}'s metrics should be a list such as [metrics.F1()], not {metrics!r:.100}")
    for metric in metrics:
        if isinstance(metric, type):
            raise ValueError(
                f"{owner}'s metrics has the class {metric.__name__}; call it: {metric.__name__}()"
            )
        if not callable(metric):
            raise ValueError(
                f"{owner}'s metrics should be functions of (logits, labels), such as metrics.F1(), not "
                f"{metric!r:.100}"
            )
    # Macro and per class are two figures of one metric.
    kinds = [(metric_name(metric), getattr(metric, "per_class", None)) for metric in metrics]
    twice = next((name for at, (name, kind) in enumerate(kinds) if (name, kind) in kinds[:at]), None)
    if twice is not None:
        raise ValueError(
            f"{owner}'s metrics has two called {twice!r}; name one anew: Metric('mine', function)"
        )
    return tuple(metrics)


def scored(
    metrics: Sequence[Answers], logits: Tensor, labels: Tensor, classes: Sequence[str]
) -> Mapping[str, float]:
    """The figures of metrics by name: "f1", or "f1.cat" and so on where there is one for each class.

    What is infinite counts as not measured (NaN). Raises ValueError for what is no figure.
    """
    figures: dict[str, float] = {}
    for metric in metrics:
        name = metric_name(metric)
        # One that works in place leaves the others theirs.
        value = metric(logits.clone(), labels.clone())
        asked: object = metric
        if isinstance(asked, Resettable):
            asked.reset()
        try:
            numbers = torch.as_tensor(value, dtype=torch.float64).detach().cpu()
        except (TypeError, ValueError, RuntimeError):
            numbers = torch.empty(0, 0)
        numbers = numbers.masked_fill(~numbers.isfinite(), torch.nan)
        if numbers.numel() == 1:
            figures[name] = float(numbers)
        elif numbers.shape == (len(classes),):
            figures |= {f"{name}.{each}": number for each, number in zip(classes, numbers.tolist())}
        else:
            raise ValueError(
                f"the metric {name} should give a number, or one for each of the {len(classes)} classes, not "
                f"{value!r:.60}"
            )
    return figures
