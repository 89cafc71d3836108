"""Saver: what happens between two steps: a checkpoint now and then, and an end where one is asked for."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from budgetnet.engine import (
    ALONE,
    Event,
    NotSaveable,
    NotWritten,
    Team,
    Training,
    TrainingStep,
    capture,
    check_finite,
)
from budgetnet.files import checkpoint, reason
from budgetnet.modelfile import write
from budgetnet.process import signals
from budgetnet.run import METRICS, MODEL, Epoch, Note, Run
from budgetnet.trainer.begin import card_of

EVERY = 60.0
"""Seconds between two checkpoints at least, which is what a kill may cost."""
COST = 100.0
"""A session is so many times as long as all that it spends on checkpoints, or else they come less often."""
WEIGHTS_EVERY, WEIGHTS_COST = 30.0, 400.0
"""The same for the weights of the last epoch, which are only for who looks at a run while it goes."""
PAUSES = (0.0, 0.1, 0.5)
"""Seconds before each try to write what is not written again later."""
_FOREMOST = (signal.SIGINT, signal.SIGTERM)
ENDING = (*_FOREMOST, *signals("SIGHUP", "SIGXCPU", "SIGUSR1", "SIGBREAK"))
"""The signals that ask for an end: the user's, the system's, and those of batch systems."""
_PIPE = signals("SIGPIPE")
_TIME = 1
"""What says that the time is up, where processes agree by numbers."""


class Stopped(Exception):
    """The training ended between two steps; `status` is "paused" or "stopped"."""

    def __init__(self, status: str, signal_number: int | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.signal_number = signal_number


@dataclass(frozen=True)
class Handler:
    """A handler of signals that is budgetnet's own."""

    ask: Callable[[int], None]

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.ask(number)


@contextmanager
def heeding(ask: Callable[[int], None]) -> Iterator[None]:
    """Within it the signals that ask for an end call `ask` with their number.

    Signals reach the main thread only; elsewhere nothing changes. What was switched off by whoever started
    us stays so (nohup, a shell's background job), and so does a handler of the user's own for a batch
    system's signal. Nor does a pipe that nobody reads any more end the process meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*ENDING, *_PIPE)}
    taken = {
        number: handler
        for number, handler in before.items()
        if handler is signal.SIG_DFL
        or isinstance(handler, Handler)
        # One that Python did not install could not be put back.
        or (number in _FOREMOST and handler not in (signal.SIG_IGN, None))
    }
    try:
        for number in taken:
            signal.signal(number, signal.SIG_IGN if number in _PIPE else Handler(ask))
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)


class Stop:
    """When a training is to end: `max_time` seconds after now, once a signal has come, or once `deserted`.

    All processes of a `team` ask at the same steps, and end where one of them is to.
    """

    def __init__(
        self, max_time: float | None, deserted: Callable[[], bool] = lambda: False, team: Team = ALONE
    ) -> None:
        self._team = team
        self._until = math.inf if max_time is None else time.monotonic() + max_time
        self._deserted = deserted
        self._signal: int | None = None

    def due(self) -> Stopped | None:
        """Why the training is to end now, if it is."""
        number = self._team.agreed(self._number())
        if number == _TIME:
            return Stopped("paused")
        return Stopped("stopped", number - _TIME) if number else None

    def _number(self) -> int:
        """_TIME and a signal's number, _TIME once the time is up, or 0."""
        if self._signal is not None:
            return _TIME + self._signal
        if self._deserted():
            return _TIME + signal.SIGTERM
        return _TIME if time.monotonic() >= self._until else 0

    @property
    def heard(self) -> int | None:
        """The signal that came, whether or not there was a step left to stop at."""
        return self._signal

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it a signal asks for a stop at the next step; a second SIGINT acts at once."""
        with heeding(self._ask):
            yield

    def _ask(self, number: int) -> None:
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number


class Saver:
    """Told of every step: saves the training by the clock, and where it is to stop; and of each epoch.

    The law: a checkpoint is written when EVERY seconds have passed since the last one, and when all that
    were written in this session, and the next one if it takes as long as the last, take a COST-th of the
    session's time at most. Only the first one is written without knowing what it takes.

    `contract` says what must be the same for the run to go on exactly; `saved` whether a checkpoint holds
    the step that the session begins after.
    """

    def __init__(
        self, run: Run, stop: Stop, training: Training, contract: Mapping[str, Any], *, saved: bool = False
    ) -> None:
        self.run = run
        self.training = training
        self.contract = contract
        self.folder: Path | None = run.place
        self.stop = stop
        self._begun = self._at = self._weights_at = time.monotonic()
        self._spent = self._cost = self._weights_spent = self._weights_cost = 0.0
        self._first = training.state.step
        self._step = self._first if saved else None
        self._failing: set[str] = set()

    def __call__(self, event: Event | Note) -> None:
        """Save if it is time to, and raise Stopped if the training is to end here.

        Raises NotWritten where it is to be paused and cannot be saved: whoever waits for that should know.
        """
        if isinstance(event, Epoch):
            self.attempt(METRICS, lambda: self.run.add(event))
            self.weights()
        if not isinstance(event, TrainingStep):
            return
        due = self.stop.due()
        if due is not None:
            self._leave(due)
        now = time.monotonic()
        waited = now - self._at >= EVERY and now - self._begun >= COST * (self._spent + self._cost)
        if self.folder is not None and waited:
            self.save()

    def _leave(self, due: Stopped) -> NoReturn:
        for pause in PAUSES:
            time.sleep(pause)
            self.save()
            if self.folder is None or self._step == self.training.state.step:
                raise due
        lost = f"step {self.training.state.step:,} is not saved in {self.run.folder}"
        if due.status == "paused":
            raise NotWritten(f"{lost}, so that the run cannot be paused: make room there", self.run)
        self._tell(f"{lost}: what came after the last checkpoint is trained again")
        raise due

    def between(self) -> None:
        """Raise Stopped between two batches of an evaluation, with all steps saved, if a stop was asked for.

        A time limit waits for the session's first step: without one its successors would get no further.
        """
        due = self.stop.due()
        if due is not None and not (due.status == "paused" and self.training.state.step == self._first):
            self._leave(due)

    def save(self) -> None:
        """Save the training now. A disk that cannot take it is told of, and the training goes on."""
        # What follows a step without another is done again from its checkpoint, with the same bits.
        training, step = self.training, self.training.state.step
        if self.folder is None or step == self._step:
            return
        folder, begun = self.folder, time.monotonic()
        try:
            tensors, words = capture(training)
            check_finite({k: v for k, v in tensors.items() if not k.startswith("hidden/")}, training)
            words = {"contract": self.contract, **words}
            if self.attempt("a checkpoint", lambda: checkpoint.save(folder, step, tensors, words)):
                self._step = step
        except NotSaveable as error:
            self._tell(f"no checkpoints are written, the run cannot be resumed: {error}")
            self.folder = None
        self._at = time.monotonic()
        self._cost = self._at - begun
        self._spent += self._cost

    def weights(self) -> None:
        """Write the weights that the run would end with now, if it is time to."""
        training, now = self.training, time.monotonic()
        kept, place = training.kept, self.run.place
        late = now - self._begun < max(
            WEIGHTS_COST * (self._weights_spent + self._weights_cost),
            COST * (self._spent + self._weights_cost),
        )
        if late or kept is None or place is None or now - self._weights_at < WEIGHTS_EVERY:
            return
        described = card_of(training, training.phase_of(kept))
        self.attempt(MODEL, lambda: write(training.model, kept.state, described, place / MODEL))
        self._weights_at = time.monotonic()
        self._weights_cost = self._weights_at - now
        self._weights_spent += self._weights_cost
        self._spent += self._weights_cost

    def _tell(self, text: str) -> None:
        self.training.tell(Note("disk", text))

    def attempt(self, what: str, write: Callable[[], object]) -> bool:
        """Write what the training can go on without. A disk that does not take it is told of once."""
        try:
            write()
        except OSError as error:
            if what not in self._failing:
                self._failing.add(what)
                step = self.training.state.step
                text = (
                    f"{what} could not be written to {self.run.folder} after step {step:,}: {reason(error)}; "
                    "the training goes on, and tries again: make room there"
                )
                self._tell(text)
                self.run.record["notes"] = [*self.run.record.get("notes", []), text]
            return False
        if what in self._failing:
            self._failing.discard(what)
            self._tell(f"{what} could be written again")
        return True


def insist(write: Callable[[], object]) -> str:
    """Write what must be written, with some tries; gives why it could not be, "" where it was."""
    refused = ""
    for pause in PAUSES:
        time.sleep(pause)
        try:
            write()
        except OSError as error:
            refused = reason(error)
        else:
            return ""
    return refused
