"""The progress line: what a terminal and what a file see."""

import io
import os
import sys
import time

import pytest

from budgetnet.data.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_are_plain_lines_at_most_every_tenth() -> None:
    out = io.StringIO()
    with Progress("storing", 1000, unit="photos", stream=out, every=0) as progress:
        for _ in range(1000):
            progress.add(1)
    lines = out.getvalue().splitlines()
    assert lines[0] == "storing ..."
    assert [line.split(" %")[0] for line in lines[1:-1]] == [f"storing: {tenth}0" for tenth in range(1, 10)]
    assert lines[-1] == "storing: 1,000 photos in 0:00"
    assert "\r" not in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_a_short_job_is_two_plain_lines() -> None:
    out = io.StringIO()
    with Progress("storing", 1000, unit="photos", stream=out) as progress:
        for _ in range(1000):
            progress.add(1)
    assert len(out.getvalue().splitlines()) == 2


def test_on_a_terminal_one_line_is_rewritten_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    out = Terminal()
    with Progress("fetching a.tar.gz", 4_000_000, stream=out) as progress:
        for _ in range(3):
            time.sleep(0.11)
            progress.add(1_000_000)
        progress.add(1_000_000)
    text = out.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert "\x1b" not in text
    assert "50 %, " in text
    assert "MB/s, 0:0" in text
    shown = text.rstrip("\n").split("\r")[1:]
    assert all(len(line) < 60 for line in shown)
    assert shown[-1].startswith("fetching a.tar.gz: 4 MB in 0:0")
    assert len(shown[-1]) >= len(shown[-2].rstrip())


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    with Progress("x", 10, stream=out):
        pass
    assert "\r" not in out.getvalue()


def test_a_line_is_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    with Progress("a name that is much longer than this terminal", 10, stream=out):
        pass
    assert max(len(line) for line in out.getvalue().replace("\n", "").split("\r")) == 19


def test_without_stderr_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Progress("x", 10) as progress:
        progress.add(10)
    assert progress.done == 10


def test_a_job_that_breaks_says_so() -> None:
    out = io.StringIO()

    def job() -> None:
        with Progress("x", 10, unit="photos", stream=out) as progress:
            progress.add(3)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        job()
    assert out.getvalue().splitlines()[-1].startswith("x: 30 %")
    assert out.getvalue().splitlines()[-1].endswith("stopped")


def test_what_was_there_before_counts_as_done_but_not_as_fast() -> None:
    progress = Progress("x", 2_000_000_000, done=1_000_000_000, stream=io.StringIO())
    assert progress.line() == "x: 50 %, 0 bytes/s"


def test_without_a_total_the_amount_is_shown() -> None:
    progress = Progress("x", None, stream=io.StringIO())
    progress.add(1_500)
    assert progress.line().startswith("x: 1.5 kB, ")
    assert os.linesep not in progress.line()
