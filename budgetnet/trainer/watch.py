"""Watch: who is told how a training goes: the screen, its guard, and the user's own watchers."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from budgetnet.console import Tell
from budgetnet.engine import Event, TrainingFailed, TrainingStep
from budgetnet.metrics import metrics_text
from budgetnet.recipe import Phase
from budgetnet.run import Epoch, Note, Run
from budgetnet.text import duration, percent
from budgetnet.values import whole

SECONDS_BETWEEN = 0.2
"""Seconds between two looks at a step's figures for the bar."""

DATA_HEAVY = 0.3
"""The share of an epoch's training time from which on it is told that data took it."""

Watcher: TypeAlias = Callable[[Event | Note], object]


class EndTraining(Exception):
    """What a watcher raises to end the training, as a `break` out of its epochs ends it.

    It ends after the step or epoch that the watcher was told of; the weights that the recipe keeps are put
    into the model, evaluated and saved. Before the first epoch is finished there are none: it ends then.
    """


@runtime_checkable
class PerRun(Protocol):
    """A watcher that is another one for each run: `begin` gives it, within a context."""

    def begin(self, run: Run) -> AbstractContextManager[Watcher]:
        """The watcher of this run, whose folder there is by now; the context is left when the run ends."""


@dataclass(frozen=True)
class Every:
    """A watcher that is told of every `n`-th step only, and of all epochs and notes."""

    n: int
    watcher: Watcher | PerRun

    def __call__(self, event: Event | Note) -> None:
        if isinstance(event, TrainingStep) and event.number % self.n:
            return
        assert not isinstance(self.watcher, PerRun), "it is opened for each run"
        self.watcher(event)


def every(n: int, watcher: Watcher | PerRun) -> Every:
    """The watcher, told of every `n`-th step only, and of all epochs and notes: `every(100, print)`."""
    whole("every's n", n)
    check_watchers([watcher])
    return Every(n, watcher)


def check_watchers(watch: Sequence[Watcher | PerRun]) -> None:
    """Refuse what cannot be told of anything."""
    if not isinstance(watch, list | tuple):
        raise ValueError(f"Trainer's watch should be a list of watchers such as [print], not {watch!r:.80}")
    for each in watch:
        if isinstance(each, type) or not (callable(each) or isinstance(each, PerRun)):
            raise ValueError(
                "a watcher should be a function of a TrainingStep, Epoch or Note, or have begin(run), not "
                f"{each!r:.80}"
            )


@dataclass(frozen=True)
class Channel:
    """How a run that is trained beside others tells of itself, and whether whoever asked for it is gone.

    Where it is not `alone`, others use the memory too.
    """

    tell: Tell | None = None
    alone: bool = True
    deserted: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Audience:
    """Who is told of a run: the screen, the user's own watchers, who asked for it beside others, and who is
    told `aside`, where nothing is shown, of what must not be missed.
    """

    show: bool
    users: Sequence[Watcher | PerRun]
    channel: Channel
    aside: Callable[[str], None] | None


class Watchers:
    """Tells the trainer's own watchers, and then the user's, of each event.

    What an own one raises ends the training there. A user's may raise EndTraining: `ending` is set then. What
    else it raises is raised as TrainingFailed, with all steps saved by `save`; for a note, which may come in
    the middle of a step, with the next event.
    """

    def __init__(self, *own: Watcher) -> None:
        self._own = list(own)
        self._users: list[tuple[str, Watcher]] = []
        self._failed: tuple[str, Exception] | None = None
        self._save: Callable[[], object] = lambda: None
        self.ending = False

    def add(self, *own: Watcher) -> None:
        """Tell these of the trainer's own, too."""
        self._own += own

    def open(self, users: Sequence[Watcher | PerRun], run: Run, save: Callable[[], object]) -> ExitStack:
        """Tell the user's, too, within the context that this gives."""
        self._save = save
        with ExitStack() as stack:
            for each in users:
                inner = each.watcher if isinstance(each, Every) else each
                name = getattr(inner, "__qualname__", type(inner).__qualname__)
                try:
                    watcher = stack.enter_context(inner.begin(run)) if isinstance(inner, PerRun) else inner
                except Exception as error:
                    raise TrainingFailed(f"the watcher {name} could not begin: {_words(error)}") from error
                self._users.append((name, Every(each.n, watcher) if isinstance(each, Every) else watcher))
            return stack.pop_all()

    def tell(self, note: Note) -> None:
        """Tell everybody of a note."""
        for each in self._own:
            each(note)
        self._tell_users(note)

    def __call__(self, event: Event) -> None:
        """Tell everybody of a step or an epoch."""
        for each in self._own:
            each(event)
        if self._users:
            self._tell_users(event)
            self._check(event)

    def _tell_users(self, event: Event | Note) -> None:
        for name, each in self._users:
            try:
                each(event)
            except EndTraining:
                self.ending = True
            except Exception as error:
                self._failed = self._failed or (name, error)

    def _check(self, event: Event) -> None:
        if self._failed is None:
            return
        name, error = self._failed
        self._save()
        after = f"{'step' if isinstance(event, TrainingStep) else 'epoch'} {event.number}"
        raise TrainingFailed(f"the watcher {name} failed after {after}: {_words(error)}") from error


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def epoch_line(epoch: Epoch) -> str:
    """A finished epoch as one line of text."""
    head = f"{epoch.name or f'phase {epoch.phase}'} {epoch.epoch}/{epoch.epochs}"
    train = f"loss {epoch.train_loss:.4f}  train {percent(epoch.train_accuracy)}"
    val = "" if math.isnan(epoch.val_accuracy) else f"  val {percent(epoch.val_accuracy)}"
    val += metrics_text(epoch.metrics, "val")
    pace = f"{epoch.images_per_second:,.0f} images/s  {duration(epoch.train_seconds + epoch.val_seconds)}"
    undone = f"  {epoch.undone} of {epoch.steps} steps undone" if epoch.undone else ""
    waits = f"  data {100 * epoch.data_share:.0f} %" if epoch.data_share > DATA_HEAVY else ""
    return f"{head:<14} {epoch.resolution} px  {train}{val}  lr {epoch.lr:.3g}{undone}  {pace}{waits}"


class Shown(Protocol):
    """What a screen shows a training on: a terminal's `Display`, or a page in a notebook."""

    @property
    def live(self) -> bool:
        """Whether there is a bar to move."""
        ...

    def say(self, text: str, name: str = "", *, once: bool = False) -> None:
        """A line, beside the bar."""

    def step(self, label: str, part: float, figures: str, name: str = "") -> None:
        """Move the bar to a part of the epoch that `label` names."""

    def epoch(self, line: str, images: int, seconds: float) -> None:
        """The line of a finished epoch."""


class Screen:
    """Shows a training: a line for each epoch and note, and its steps by a bar, which waits for no device."""

    def __init__(self, display: Shown, phases: Sequence[Phase]) -> None:
        self._display = display
        # The work of an epoch, in pixels seen of each image: what the time left is estimated from.
        self._costs = [phase.views * phase.last_resolution**2 for phase in phases]
        costs = [phase.epochs * cost for phase, cost in zip(phases, self._costs)]
        self._before = [sum(costs[:at]) for at in range(len(costs))]
        self._whole = sum(costs)
        self._begun = self._shown = time.perf_counter()
        self._copy: tuple[Tensor, torch.cuda.Event, int] | None = None
        self._epoch, self._figures = (0, 0), ""

    def __call__(self, event: Event | Note) -> None:
        if isinstance(event, TrainingStep):
            now = time.perf_counter()
            if now - self._shown >= SECONDS_BETWEEN and self._display.live:
                self._shown = now
                self._step(event, now)
        elif isinstance(event, Note):
            self._display.say(str(event), once=not event.plain)
        else:
            self._epoch_over(event)

    def _epoch_over(self, epoch: Epoch) -> None:
        self._display.epoch(epoch_line(epoch), epoch.images, epoch.train_seconds)

    def _step(self, step: TrainingStep, now: float) -> None:
        if self._epoch != (step.phase, step.epoch):
            self._epoch, self._copy, self._figures = (step.phase, step.epoch), None, ""
        seen = self._read(step)
        if seen is not None:
            (loss, accuracy, _), steps = seen
            self._figures = f"loss {loss / steps:.4f}  accuracy {percent(accuracy / steps)}"
        at = step.phase - 1
        done = self._before[at] + self._costs[at] * (step.epoch - 1 + step.done / step.steps)
        whole = (now - self._begun) * self._whole / done
        pace = step.done * step.images / step.seconds
        label = f"{step.name or f'phase {step.phase}'} {step.epoch}/{step.epochs}"
        figures = f"{self._figures}  {pace:,.0f} images/s"
        self._move(label, step.done / step.steps, done / self._whole, figures, whole)

    def _move(self, label: str, part: float, of_all: float, figures: str, seconds: float) -> None:
        """Move the bar to a part of the epoch, and of the training, which takes so many seconds in all."""
        self._display.step(label, part, f"{figures}  {duration(seconds * (1 - of_all))} left")

    def _read(self, step: TrainingStep) -> tuple[list[float], int] | None:
        """The sums over the epoch's steps, or over those that a CUDA device had done a look ago."""
        if step.sums.device.type != "cuda":
            return step.sums.tolist(), step.done
        seen = None
        if self._copy is not None and self._copy[1].query():  # type: ignore[no-untyped-call]
            seen = (self._copy[0].tolist(), self._copy[2])
            self._copy = None
        if self._copy is None:
            aside = torch.empty(len(step.sums), pin_memory=True).copy_(step.sums, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._copy = (aside, event, step.done)
        return seen
