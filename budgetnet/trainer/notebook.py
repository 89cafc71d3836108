"""Notebook: a training as one block of a notebook's cell: what it is to do, a table of epochs, a bar."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from budgetnet.budget import ledger
from budgetnet.console import terminal
from budgetnet.modelfile import described
from budgetnet.pictures import rendered
from budgetnet.recipe import Phase
from budgetnet.run import Epoch
from budgetnet.text import duration, percent
from budgetnet.trainer.begin import Start
from budgetnet.trainer.overview import budget_lines, data_line, device_line, part_rows, phase_rows
from budgetnet.trainer.watch import Screen

BETWEEN = 0.5
"""Seconds between two drawings, which go through the browser."""
LATEST = 10
"""So many epochs are shown while it runs; in the end all of them are."""


class Handle(Protocol):
    """What IPython gives for a cell's output that may be drawn again."""

    def update(self, data: Any, *, raw: bool) -> None:
        """Draw other data in its place."""


@dataclass
class Page:
    """One block of a notebook's output, drawn again as a training goes. What fails there ends no training."""

    facts: list[tuple[str, str]]
    parts: list[Sequence[str]]
    phases: list[Sequence[str]]
    lines: list[str] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bar: tuple[float, str] = (0.0, "")
    over: bool = False
    drawn: float = 0.0
    handle: Handle | None = None
    live: bool = True

    def __enter__(self) -> Self:
        self.draw(now=True)
        return self

    def __exit__(self, *raised: object) -> None:
        self.over = True
        self.draw(now=True)

    def say(self, text: str, name: str = "", *, once: bool = False) -> None:
        """A line below the table."""
        self.notes.append(text)
        self.lines.append(text)
        self.draw()

    def step(self, label: str, part: float, figures: str, name: str = "") -> None:
        """Move the bar to a part of the training."""
        self.bar = (part, f"{label}  {figures}")
        self.draw()

    def epoch(self, line: str, images: int, seconds: float) -> None:
        """The line of a finished epoch, for whoever sees no pages."""
        self.lines.append(line)
        self.draw()

    def draw(self, *, now: bool = False) -> None:
        """Draw the block, where it was not drawn just before."""
        if not self.live or (not now and time.monotonic() - self.drawn < BETWEEN):
            return
        self.drawn = time.monotonic()
        shown = self.rows if self.over else self.rows[-LATEST:]
        try:
            page = rendered("fit.html", page=self, rows=shown, earlier=len(self.rows) - len(shown))
            data = {"text/html": page, "text/plain": "\n".join(self.lines)}
            if self.handle is None:
                from IPython.display import display

                self.handle = display(data, raw=True, display_id=True)
            else:
                self.handle.update(data, raw=True)
        except Exception:  # A front end may be gone, and fail in ways of its own.
            self.live = False


class NotebookScreen(Screen):
    """A `Screen` whose epochs are rows of a table, and whose bar goes through the whole training."""

    def __init__(self, page: Page, phases: Sequence[Phase]) -> None:
        super().__init__(page, phases)
        self._page, self._told = page, False

    def _epoch_over(self, epoch: Epoch) -> None:
        self._page.rows.append(_cells(epoch))
        super()._epoch_over(epoch)

    def _move(self, label: str, part: float, of_all: float, figures: str, seconds: float) -> None:
        self._page.facts[-1] = ("time", f"about {duration(seconds)} in all")
        super()._move(label, of_all, of_all, figures, seconds)


def _cells(epoch: Epoch) -> dict[str, str]:
    """A finished epoch by the titles of the table's columns."""
    val = {} if math.isnan(epoch.val_accuracy) else {"val": percent(epoch.val_accuracy)}
    return {
        "epoch": f"{epoch.name or f'phase {epoch.phase}'} {epoch.epoch}/{epoch.epochs}",
        "px": f"{epoch.resolution}",
        "loss": f"{epoch.train_loss:.4f}",
        "train": percent(epoch.train_accuracy),
        **val,
        **{name.replace("val_", "val "): f"{figure:.4f}" for name, figure in epoch.metrics.items()},
        "learning rate": f"{epoch.lr:.3g}",
        "images/s": f"{epoch.images_per_second:,.0f}",
        "time": duration(epoch.train_seconds + epoch.val_seconds),
    }


def page_of(start: Start, device: Any) -> Page | None:
    """The block for a training that begins, where it is shown in a notebook; None elsewhere."""
    if not terminal().is_jupyter:
        return None
    resolution = start.recipe.phases[-1].last_resolution
    costs = ledger(start.model, resolution)
    name = described(start.model).builder or type(start.model).__name__
    facts = [("model", f"{name}: {costs.params:,} parameters, {costs.macs:,} MACs at {resolution} px")]
    facts += [("budget", line.removeprefix("budget: ")) for line in budget_lines(start.model, costs)]
    facts += [("data", data_line(start.data).removeprefix("data: "))]
    facts += [
        ("device", device_line(device).removeprefix("device: ")),
        ("time", "to be seen after some steps"),
    ]
    phases = phase_rows(start.recipe, start.data)
    return Page(facts, [*part_rows(costs, resolution)], [*phases])
