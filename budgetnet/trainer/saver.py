"""Saver: what happens between two steps: a checkpoint now and then, and an end where one is due."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from budgetnet.engine import Event, NotSaveable, NotWritten, Training, TrainingStep, capture, check_finite
from budgetnet.files import checkpoint, reason
from budgetnet.modelfile import write
from budgetnet.run import METRICS, MODEL, Epoch, Note, Run
from budgetnet.trainer.begin import card_of
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
