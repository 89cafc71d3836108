"""Saver: what happens between two steps: a checkpoint now and then, and an end where one is due."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from budgetnet.engine import NotSaveable, NotWritten, Training, capture, check_finite
from budgetnet.files import checkpoint, reason
from budgetnet.modelfile import write
from budgetnet.run import MODEL, Run
from budgetnet.trainer.record import card_of
from budgetnet.trainer.stop import Stop, Stopped

EVERY = 60.0
"""Seconds between two checkpoints at least, which is what a kill may cost."""
COST = 100.0
"""A session is so many times as long as all that it spends on checkpoints, or else they come less often."""
WEIGHTS_EVERY, WEIGHTS_COST = 30.0, 400.0
"""The same for the weights of the last epoch, which are only for who looks at a run while it goes."""
PAUSES = (0.0, 0.1, 0.5)
"""Seconds before each try to write what is not written again later."""


class Saver:
    """Called after every step: saves the training by the clock, and where it is to stop.

    The law: a checkpoint is written when EVERY seconds have passed since the last one, and when all that
    were written in this session, and the next one if it takes as long as the last, take a COST-th of the
    session's time at most. Only the first one is written without knowing what it takes.

    `step` is the one that the session begins after; `saved` says whether a checkpoint holds it.
    """

    def __init__(self, run: Run, stop: Stop, *, step: int = 0, saved: bool = False) -> None:
        self.run = run
        self.folder: Path | None = run.place
        self.stop = stop
        self._begun = self._at = self._weights_at = time.monotonic()
        self._spent = self._cost = self._weights_spent = self._weights_cost = 0.0
        self._first = step
        self._step = step if saved else None
        self._failing: set[str] = set()

    def __call__(self, training: Training) -> None:
        """Save if it is time to, and raise Stopped if the training is to end here.

        Raises NotWritten where it is to be paused and cannot be saved: whoever waits for that should know.
        """
        due = self.stop.due()
        if due is not None:
            self._leave(training, due)
        now = time.monotonic()
        waited = now - self._at >= EVERY and now - self._begun >= COST * (self._spent + self._cost)
        if self.folder is not None and waited:
            self.save(training)

    def _leave(self, training: Training, due: Stopped) -> NoReturn:
        for pause in PAUSES:
            time.sleep(pause)
            self.save(training)
            if self.folder is None or self._step == training.step:
                raise due
        lost = f"step {training.step:,} is not saved in {self.run.folder}"
        if due.status == "paused":
            raise NotWritten(f"{lost}, so that the run cannot be paused: make room there", self.run)
        training.watch.say(f"note: {lost}: what came after the last checkpoint is trained again")
        raise due

    def between(self, training: Training) -> None:
        """Raise Stopped between two batches of an evaluation, with all steps saved, if a stop was asked for.

        A time limit waits for the session's first step: without one its successors would get no further.
        """
        due = self.stop.due()
        if due is not None and not (due.status == "paused" and training.step == self._first):
            self._leave(training, due)

    def save(self, training: Training) -> None:
        """Save the training now. A disk that cannot take it is told of, and the training goes on."""
        # What follows a step without another is done again from its checkpoint, with the same bits.
        if self.folder is None or training.step == self._step:
            return
        folder, begun = self.folder, time.monotonic()
        try:
            tensors, state = capture(training)
            check_finite({k: v for k, v in tensors.items() if not k.startswith("hidden/")}, training)
            if self.attempt(
                training, "a checkpoint", lambda: checkpoint.save(folder, training.step, tensors, state)
            ):
                self._step = training.step
        except NotSaveable as error:
            training.watch.say(f"note: no checkpoints are written, the run cannot be resumed: {error}")
            self.folder = None
        self._at = time.monotonic()
        self._cost = self._at - begun
        self._spent += self._cost

    def weights(self, training: Training) -> None:
        """Write the weights that the run would end with now, if it is time to."""
        now, kept, place = time.monotonic(), training.kept, self.run.place
        late = now - self._begun < max(
            WEIGHTS_COST * (self._weights_spent + self._weights_cost),
            COST * (self._spent + self._weights_cost),
        )
        if late or kept is None or place is None or now - self._weights_at < WEIGHTS_EVERY:
            return
        described = card_of(training, training.phase_of(kept))
        self.attempt(training, MODEL, lambda: write(training.model, kept.state, described, place / MODEL))
        self._weights_at = time.monotonic()
        self._weights_cost = self._weights_at - now
        self._weights_spent += self._weights_cost
        self._spent += self._weights_cost

    def attempt(self, training: Training, what: str, write: Callable[[], object]) -> bool:
        """Write what the training can go on without. A disk that does not take it is told of once."""
        try:
            write()
        except OSError as error:
            if what not in self._failing:
                self._failing.add(what)
                text = (
                    f"{what} could not be written to {self.run.folder} after step {training.step:,}: "
                    f"{reason(error)}; the training goes on, and tries again: make room there"
                )
                training.watch.say(f"note: {text}")
                self.run.record["notes"] = [*self.run.record.get("notes", []), text]
            return False
        if what in self._failing:
            self._failing.discard(what)
            training.watch.say(f"note: {what} could be written again")
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
