"""What the terminal shows: a live bar on a terminal or in a notebook, plain lines everywhere else."""

import os
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from budgetnet.process import steadfast
from budgetnet.text import aligned, folded, harmless, inline

if TYPE_CHECKING:
    # Imported where it is used: a training that shows nothing needs none of it.
    from rich.console import Console
    from rich.progress import Progress, TaskID

Tell: TypeAlias = Callable[[Mapping[str, Any]], None]


def terminal(*, error: bool = False) -> "Console":
    """A console on standard output (or error); it honours NO_COLOR, and puts no control codes into a pipe.

    Writing to it never fails.
    """
    from rich.console import Console

    file = steadfast(sys.stderr if error else sys.stdout)
    # In no columns there is nothing to be seen.
    width = 80 if os.environ.get("COLUMNS", "").strip() == "0" else None
    console = Console(file=file, highlight=False, emoji=False, width=width)
    if console.is_terminal or console.is_jupyter:
        return console
    # Plain lines are never wrapped: whoever reads a pipe wants a line to stay a line.
    return Console(file=file, highlight=False, emoji=False, width=10_000, soft_wrap=True)


def say(text: str = "", *, style: str | None = None, error: bool = False) -> None:
    """Print text as it is: nothing in it is markup, and nothing that a terminal obeys."""
    if error and os.environ.get("BUDGETNET_QUIET"):
        return
    console = terminal(error=error)
    text = text if characters("±") else text.replace("±", "+-")
    text = _fitting(harmless(text), console)
    # A notebook's display is a program of its own, which may fail in its own ways.
    with suppress(Exception) if console.is_jupyter else nullcontext():
        console.print(_escape(text), style=style, soft_wrap=True)


def _fitting(text: str, console: "Console") -> str:
    """Text whose tables are as narrow as a terminal; plain lines are for programs, too, and stay whole."""
    return folded(text, console.width) if console.is_terminal else text


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


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    left: int | Container[int] = 1,
) -> None:
    """Print a table below its title; the first `left` columns, or those in it, are text, the rest numbers."""
    if title:
        say(title, style="italic")
    head, *lines = _fitting(aligned([columns, *rows], left=left), terminal()).split("\n")
    say(head, style="bold")
    for line in lines:
        say(line)


def _cell(text: str) -> str:
    return _escape(inline(text))


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


class Display:
    """Shows runs as they go: a live bar with loss, accuracy, images/s and time left, and a line an epoch.

    Without a terminal (a pipe, CI) there is no bar; with `show=False` there is nothing at all. Of several
    runs each has its `name`, and a bar under it. Where there is somebody to `tell`, it is told instead,
    as plain JSON values. Whatever goes wrong with showing, on a terminal or in a notebook, ends no training.
    """

    def __init__(self, show: bool = True, tell: Tell | None = None) -> None:
        self._tell = tell
        self._console = terminal() if show and tell is None else None
        self._bar = self._make_bar(self._console) if self._console is not None else None
        self._bars: dict[str, TaskID] = {}

    def _make_bar(self, console: "Console") -> "Progress | None":
        # In a notebook rich moves its bar by a widget, and only warns where there are none.
        widgets = console.is_jupyter and find_spec("ipywidgets") is not None
        if not (console.is_terminal or widgets) or console.is_dumb_terminal:
            return None
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24 if console.width >= 100 else 8),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[figures]}"),
        )
        return Progress(*columns, console=console, transient=True, refresh_per_second=5)

    def __enter__(self) -> Self:
        self._draw(lambda bar: bar.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw(lambda bar: bar.stop())

    def _draw(self, do: "Callable[[Progress], object]") -> None:
        """Do something with the bar, if there is one; there is none any more once that fails."""
        if self._bar is None:
            return
        try:
            do(self._bar)
        except Exception:
            broken, self._bar = self._bar, None
            with suppress(Exception):
                broken.stop()

    @property
    def live(self) -> bool:
        """Whether there is a bar to move."""
        return self._bar is not None or self._tell is not None

    def say(self, text: str, name: str = "", *, once: bool = False) -> None:
        """One line above the bars; `once`: that one of several runs says it is enough."""
        if self._tell is not None:
            self._tell({"say": text, "once": once})
        if self._console is not None:
            with suppress(Exception):
                line = f"{name}: {text}" if name else text
                self._console.print(_escape(_fitting(harmless(line), self._console)), soft_wrap=True)

    def step(self, label: str, part: float, figures: str, name: str = "") -> None:
        """Move the bar of a run to `part` in [0, 1] of the epoch that `label` names."""
        if self._tell is not None:
            self._tell({"step": [label, part, figures]})
        label = ": ".join(filter(None, (name, label)))
        self._draw(lambda bar: self._move(bar, name, _cell(label), part, _cell(figures)))

    def _move(self, bar: "Progress", name: str, label: str, part: float, figures: str) -> None:
        # What has no room is left out whole; beside it stand the label, a short bar and the percents.
        room = bar.console.width - len(label) - 18
        shown = folded(figures, room).partition("\n")[0] if 0 < room < len(figures) else figures
        if name not in self._bars:
            self._bars[name] = bar.add_task(label, total=1.0, figures=shown)
        bar.update(self._bars[name], description=label, completed=part, figures=shown)

    def gone(self, name: str) -> None:
        """Take the bar of a run away."""
        if name in self._bars:
            self._draw(lambda bar: bar.remove_task(self._bars.pop(name)))

    def epoch(self, line: str, images: int, seconds: float) -> None:
        """The line of a finished epoch, which went through so many images in so many seconds."""
        self.say(line)
        if self._tell is not None:
            self._tell({"images": images, "seconds": seconds})
