"""Saver: what happens between two steps: a checkpoint now and then, and an end where one is due."""

import time
from pathlib import Path

from budgetnet import checkpoint
from budgetnet.trainer.finite import check_finite
from budgetnet.trainer.state import NotSaveable, capture
from budgetnet.trainer.stop import Stop
from budgetnet.trainer.training import Training

EVERY = 60.0
"""Seconds between two checkpoints, where saving one costs less than a hundredth of that."""
COST = 100.0
"""Otherwise so many times what one costs."""


class Saver:
    """Called after every step: saves the training by the clock, and where it is to stop."""

    def __init__(self, folder: Path | None, stop: Stop, *, step: int = 0, saved: bool = False) -> None:
        """`step` is the one that the session begins after; `saved` says whether a checkpoint holds it."""
        self.folder = folder
        self.stop = stop
        self._begun = step
        self._saved = step if saved else None
        self._at = time.monotonic()
        self._cost = 0.0

    def __call__(self, training: Training) -> None:
        """Save if it is time to, and raise Stopped if the training is to end here."""
        due = self.stop.due()
        if due is not None:
            self.save(training)
            raise due
        if self.folder is not None and time.monotonic() - self._at >= max(EVERY, COST * self._cost):
            self.save(training)

    def between(self, training: Training) -> None:
        """Raise Stopped between two batches of an evaluation, with all steps saved, if a stop was asked for.

        A time limit waits for the session's first step: without one its successors would get no further.
        """
        due = self.stop.due()
        if due is None or (due.status == "paused" and training.step == self._begun):
            return
        self.save(training)
        raise due

    def save(self, training: Training) -> None:
        """Save the training now. A disk that cannot take it is told of, and the training goes on."""
        # What follows a step without another is done again from its checkpoint, with the same bits.
        if self.folder is None or training.step == self._saved:
            return
        begun = time.monotonic()
        try:
            tensors, state = capture(training)
            check_finite(tensors, training)
            checkpoint.save(self.folder, training.step, tensors, state)
            self._saved = training.step
        except NotSaveable as error:
            training.watch.say(f"note: no checkpoints are written, the run cannot be resumed: {error}")
            self.folder = None
        except OSError as error:
            reason = error.strerror or str(error)
            training.watch.say(f"note: a checkpoint could not be written to {self.folder}: {reason}")
        self._at = time.monotonic()
        self._cost = self._at - begun
