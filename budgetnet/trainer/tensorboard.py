"""TensorBoard: a watcher that writes a run's figures as TensorBoard reads them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from budgetnet.engine import Event, TrainingStep
from budgetnet.run import Note, Run
from budgetnet.trainer.watch import Watcher

_SKIPPED = ("number", "phase", "epoch", "epochs", "steps", "images", "session")


@dataclass(frozen=True)
class TensorBoard:
    """Writes loss, accuracy and learning rate of every `every`-th step, and the figures of each epoch.

    They go to a folder of the run's name in `folder`, or to `tensorboard` in the run's own folder; what a
    resumed run does again takes the place of what was written before. Needs the extra `tensorboard`.

    ::

        Trainer(watch=[TensorBoard()])      # then: tensorboard --logdir runs
    """

    folder: str | Path | None = None
    every: int = 100

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"TensorBoard's every should be a whole number of 1 or more, not {self.every!r}")
        if find_spec("tensorboard") is None:
            raise ValueError(
                "TensorBoard needs tensorboard, which is not installed: pip install 'budgetnet[tensorboard]'"
            )

    @contextmanager
    def begin(self, run: Run) -> Iterator[Watcher]:
        """The watcher of one run."""
        if run.place is None and self.folder is None:
            raise ValueError("TensorBoard needs a folder where the run has none: TensorBoard('boards')")
        name = run.place.name if run.place is not None else "run"
        own = Path(run.place or "") / "tensorboard"
        board = _Board(Path(self.folder) / name if self.folder is not None else own, self.every)
        try:
            yield board.tell
        finally:
            board.close()


class _Board:
    """The files of one run; its axis is the number of steps, for epochs too."""

    def __init__(self, folder: Path, every: int) -> None:
        self._folder, self._every = folder, every
        self._writer: Any = None
        self._step = 0

    def tell(self, event: Event | Note) -> None:
        """Write what there is of an event."""
        if isinstance(event, TrainingStep):
            if self._writer is None:
                self._open(event.number)
            self._step = event.number
            if event.number % self._every == 0:
                self._write("step", {"loss": event.loss, "accuracy": event.accuracy, "lr": event.lr})
        elif self._writer is not None and isinstance(event, Note):
            self._writer.add_text(event.kind, event.text, self._step)
        elif self._writer is not None and not isinstance(event, Note):
            figures = {**asdict(event), **event.metrics}
            self._write("epoch", {k: v for k, v in figures.items() if k not in _SKIPPED})
            self._writer.flush()

    def _open(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(self._folder, purge_step=step)

    def _write(self, kind: str, figures: dict[str, Any]) -> None:
        for name, figure in figures.items():
            if isinstance(figure, int | float) and math.isfinite(figure):
                self._writer.add_scalar(f"{kind}/{name}", figure, self._step)

    def close(self) -> None:
        """Write the rest."""
        if self._writer is not None:
            self._writer.close()
