"""What the terminal shows: a live bar on a terminal or in a notebook, plain lines everywhere else."""

import math
import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from budgetnet.run import Epoch

# Control characters, what turns the direction of writing, and halves of characters, which nothing shows.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def harmless(text: str, *, lines: bool = True) -> str:
    """`text` with each character that a terminal would obey instead of showing it as "\\x1b" or the like.

    Names of files and classes come from elsewhere. Tabs stay, and with `lines` so do ends of lines.
    """
    shown = _HARMFUL.sub(lambda found: ascii(found[0])[1:-1], text)
    return shown if lines else shown.replace("\n", "\\n")


def terminal(*, error: bool = False) -> Console:
    """A console on standard output (or error); it honours NO_COLOR, and puts no control codes into a pipe."""
    console = Console(stderr=error, highlight=False, emoji=False)
    if console.is_terminal or console.is_jupyter:
        return console
    # Plain lines are never wrapped: whoever reads a pipe wants a line to stay a line.
    return Console(stderr=error, highlight=False, emoji=False, width=10_000, soft_wrap=True)


def say(text: str = "", *, style: str | None = None, error: bool = False) -> None:
    """Print text as it is: nothing in it is markup, and nothing that a terminal obeys."""
    terminal(error=error).print(escape(harmless(text)), style=style, soft_wrap=True)


def columns() -> int:
    """How many columns a drawing may take: the terminal's, or 80 where there is none."""
    console = terminal()
    return console.width if console.is_terminal else 80


def characters(text: str) -> bool:
    """Whether standard output can show all of these characters."""
    try:
        text.encode(terminal().encoding)
    except UnicodeEncodeError:
        return False
    return True


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> None:
    """Print a table; the first `left` columns are text, the others numbers."""
    drawn = Table(title=_cell(title) if title else None, title_justify="left", box=None, pad_edge=False)
    for k, column in enumerate(columns):
        drawn.add_column(_cell(column), justify="left" if k < left else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*(_cell(cell) for cell in row))
    console = terminal()
    if console.is_terminal or console.is_jupyter:
        console.print(drawn)
        return
    with console.capture() as captured:
        console.print(drawn)
    for line in captured.get().splitlines():
        # Cells are padded to the width of their column, the last one too.
        say(line.rstrip())


def _cell(text: str) -> str:
    return escape(harmless(text, lines=False))


def percent(part: float) -> str:
    """0.8401 as "84.01 %"; nothing measured as "-"."""
    return "-" if math.isnan(part) else f"{100 * part:.2f} %"


def duration(seconds: float) -> str:
    """Seconds as a person reads them: "4.2 s", "3:07", "2:03:07"."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def epoch_line(epoch: Epoch) -> str:
    """A finished epoch as one line of text."""
    head = f"{epoch.name or f'phase {epoch.phase}'} {epoch.epoch}/{epoch.epochs}"
    train = f"loss {epoch.train_loss:.4f}  train {percent(epoch.train_accuracy)}"
    val = "" if math.isnan(epoch.val_accuracy) else f"  val {percent(epoch.val_accuracy)}"
    pace = f"{epoch.images_per_second:,.0f} images/s  {duration(epoch.train_seconds + epoch.val_seconds)}"
    undone = f"  {epoch.undone} of {epoch.steps} steps undone" if epoch.undone else ""
    return f"{head:<14} {epoch.resolution} px  {train}{val}  lr {epoch.lr:.3g}{undone}  {pace}"


class Watch:
    """Shows a run as it goes: a live bar with loss, accuracy, images/s and time left, and a line an epoch.

    Without a terminal (a pipe, CI) there is no bar; with `show=False` there is nothing at all.
    """

    def __init__(self, show: bool = True) -> None:
        self.show = show
        self._console = terminal()
        # In a notebook rich moves its bar by a widget, and only warns where there are none.
        widgets = self._console.is_jupyter and find_spec("ipywidgets") is not None
        live = self._console.is_terminal or widgets
        self._bar = self._make_bar() if show and live and not self._console.is_dumb_terminal else None
        self._task: TaskID | None = None

    def _make_bar(self) -> Progress:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[figures]}"),
        )
        return Progress(*columns, console=self._console, transient=True, refresh_per_second=5)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def live(self) -> bool:
        """Whether there is a bar to move."""
        return self._bar is not None

    def say(self, text: str) -> None:
        """One line above the bar."""
        if self.show:
            self._console.print(escape(harmless(text)), soft_wrap=True)

    def step(self, label: str, part: float, figures: str) -> None:
        """Move the bar to `part` in [0, 1] of the epoch that `label` names."""
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task(_cell(label), total=1.0, figures=_cell(figures))
        self._bar.update(self._task, description=_cell(label), completed=part, figures=_cell(figures))

    def epoch(self, epoch: Epoch) -> None:
        """The line of a finished epoch."""
        self.say(epoch_line(epoch))
