"""Failure: what is raised of a training that cannot go on."""

from budgetnet.run import Run


class TrainingFailed(RuntimeError):
    """A training that cannot go on: what happened, where, and what is left."""


class NotWritten(TrainingFailed):
    """A training whose end could not be written to its folder; `run` has the trained model."""

    def __init__(self, text: str, run: Run) -> None:
        super().__init__(text)
        self.run = run


class NotFinite(TrainingFailed):
    """A training in which a number became NaN or infinite: which, and in which step."""
