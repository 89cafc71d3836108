"""The console: figures as people read them, and nothing but text in a pipe."""

import math

import pytest

from budgetnet.console import Display, say, table
from budgetnet.text import duration, percent, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.21, "4.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1:00"),
        (187, "3:07"),
        (7387.4, "2:03:07"),
        (math.inf, "-"),
        (math.nan, "-"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_999, "1 MB"),
        (1_530_000_000, "1.53 GB"),
        (999_999_999_999, "1 TB"),
    ],
)
def test_sizes_have_three_digits(count: int, text: str) -> None:
    assert size(count) == text


def test_percent() -> None:
    assert percent(0.840144) == "84.01 %"
    assert percent(math.nan) == "-"


def test_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say("[red]not markup[/red] :smile:", style="bold")
    say("to standard error", error=True)
    found = capsys.readouterr()
    assert found.out == "[red]not markup[/red] :smile:\n"
    assert found.err == "to standard error\n"


def test_a_long_line_stays_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    say("word " * 100)
    assert capsys.readouterr().out.count("\n") == 1


def test_tables_line_up_without_control_codes(capsys: pytest.CaptureFixture[str]) -> None:
    table(["part", "parameters"], [["stem[0]", "1,152"], ["stages", "12,345"]], title="counts")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "counts"
    assert lines[2].rstrip().endswith("1,152")
    assert len({len(line) for line in lines[1:]}) == 1
    assert not any("\x1b" in line for line in lines)


def test_without_a_terminal_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as watch:
        assert not watch.live
        watch.step("learn 1/2", 0.5, "loss 1.0")
        watch.say("a line")
    assert capsys.readouterr().out == "a line\n"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Display() as watch:
        assert watch.live
        watch.step("learn 1/2", 0.5, "loss 1.0  12 images/s  3.0 s left")
    assert "12 images/s" in capsys.readouterr().out
