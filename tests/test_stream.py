"""Printing never ends a training: readers that go away, full disks, closed files, odd characters."""

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import pytest
from conftest import coloured
from lives import RECIPE
from torch import Tensor, nn

import budgetnet
from budgetnet import Phase, Recipe, Run, Trainer
from budgetnet.cli import main
from budgetnet.console import Display, characters, say, table
from budgetnet.data.progress import Progress
from budgetnet.process import Steadfast, fill_closed, steadfast


def broken_pipe() -> TextIO:
    """A pipe whose reader has gone away."""
    read, write = os.pipe()
    os.close(read)
    return open(write, "w")


def full_disk() -> TextIO:
    return open("/dev/full", "w")


def ascii_only() -> TextIO:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")


def closed() -> TextIO:
    stream = broken_pipe()
    stream.close()
    return stream


def not_there() -> TextIO:
    return cast(TextIO, None)


class Broken:
    """A standard output of the user's own, which can do little else than fail."""

    def write(self, text: str) -> int:
        raise RuntimeError("the log's server is gone")

    def close(self) -> None:
        pass


@pytest.fixture(params=[Broken, broken_pipe, full_disk, ascii_only, closed, not_there])
def bad_stdout(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    stream = request.param()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield stream
    if stream is not None:
        # What the interpreter does in the end, with exit code 120 where it fails.
        stream.close()


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 3))


PHASE = Phase(2, 12, 0.05, name="Größe 中 \U0001f600")


def test_a_training_goes_on_whatever_becomes_of_its_output(bad_stdout: TextIO, tmp_path: Path) -> None:
    run = Trainer("cpu", out=tmp_path).fit(network(), coloured(20, val=3), Recipe([PHASE], batch_size=20))
    found = Run.read(tmp_path / "run-1")
    assert (run.status, found.status) == ("finished", "finished")
    assert [epoch.name for epoch in found.history] == [PHASE.name] * 2


def test_the_command_that_trains_ends_well_whatever_becomes_of_its_output(
    bad_stdout: TextIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tiny.py"
    file.write_text(RECIPE.replace("EPOCHS", "1").replace("Noise of", "Geräusch 中") + "\nprint('loaded')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["run", "tiny.py"])
    assert ended.value.code == 0
    assert Run.read(tmp_path / "runs/tiny-1").status == "finished"
    with pytest.raises(SystemExit) as ended:
        main(["run", "tiny.py", "-q", "--resume", "--max-time", "0.001s"])
    assert ended.value.code == 75


def test_characters_that_do_not_fit_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = ascii_only()
    monkeypatch.setattr(sys, "stdout", stream)
    say("Größe 中")
    assert not characters("▁▂▃")
    assert cast(io.BytesIO, stream.buffer).getvalue() == b"Gr\\xf6\\xdfe \\u4e2d\n"


@pytest.mark.parametrize(
    ("make", "code"), [(broken_pipe, 1), (full_disk, 1), (ascii_only, 0), (not_there, 0)]
)
def test_other_commands_say_by_their_exit_code_that_they_could_not_print(
    make: Callable[[], TextIO],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    stream = make()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as ended:
            main(["list"])
    assert ended.value.code == code
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert told == (f"Error: [Errno 28] {os.strerror(errno.ENOSPC)}\n" if make is full_disk else "")


def test_nothing_of_what_was_dropped_is_left_for_the_interpreter_to_write() -> None:
    stream = Steadfast(full_disk())
    stream.write("lost\n")
    stream.flush()
    assert isinstance(stream.failed, OSError)
    assert stream.stream is not None
    stream.stream.close()
    assert steadfast(cast(TextIO, stream)) is stream


def test_a_display_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the notebook's kernel has lost its front end")

    with Display() as watch:
        assert watch._bar is not None
        monkeypatch.setattr(watch._bar, "update", broken)
        watch.step("learn 1/2", 0.5, "loss 1.0")
        assert not watch.live
        monkeypatch.setattr(watch._console, "print", broken)
        watch.say("a line")


def test_a_download_goes_on_without_standard_error() -> None:
    for stream in (broken_pipe(), full_disk(), closed()):
        with Progress("fetching", 4, stream=stream, every=0) as progress:
            progress.add(3)
        stream.close()


def test_closed_standard_files_are_not_given_to_the_next_that_is_opened() -> None:
    pid = os.fork()
    if not pid:
        os.close(1)
        os.close(2)
        fill_closed()
        os._exit(0 if os.open(os.devnull, os.O_RDONLY) > 2 else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_standard_output_of_the_users_own_needs_no_more_than_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines: list[str] = []

    class Tee:
        def write(self, text: str) -> None:
            lines.append(text)

    monkeypatch.setattr(sys, "stdout", Tee())
    Trainer("cpu", out=tmp_path).fit(network(), coloured(20, val=3), Recipe([PHASE], batch_size=20))
    assert "".join(lines).count(PHASE.name) == 2


@pytest.mark.parametrize("make", [broken_pipe, full_disk, ascii_only])
def test_what_others_print_in_a_training_does_not_end_it_either(
    make: Callable[[], TextIO], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        print("größer", flush=True)
        return nn.functional.cross_entropy(logits, labels)

    stream, run = make(), Run.new(tmp_path, "mine")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        recipe = Recipe([PHASE], batch_size=20, loss=loss)
        for epoch in Trainer("cpu", show=False).epochs(network(), coloured(20, val=3), recipe, run):
            print(f"größer: {epoch.val_accuracy}", flush=True)
        # As it was found.
        assert sys.stdout is stream
    stream.close()
    assert Run.read(tmp_path / "mine-1").status == "finished"
    assert len(run.history) == 2


def test_no_columns_are_taken_for_80(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    say("a line")
    table(["part", "parameters"], [["stem[0]", "1,152"]], title="counts")
    found = capsys.readouterr().out
    assert "a line" in found
    assert "1,152" in found


def test_a_working_directory_that_is_gone_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(gone)
        gone.rmdir()
        with pytest.raises(SystemExit) as ended:
            main(["list"])
        patch.undo()
    assert ended.value.code == 2
    assert "the working directory is gone: change to another" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("$RUN | head -n 1", 0),
        ("$RUN > /dev/full", 0),
        ("$RUN > /dev/full 2> /dev/full", 0),
        ("$RUN >&-", 0),
        ("$RUN >&- 2>&- <&-", 0),
        ("PYTHONIOENCODING=ascii $RUN", 0),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $RUN", 0),
        ("env -u HOME -u TERM COLUMNS=1 $RUN", 0),
        ('$PYTHON -c "$SCRIPT" | head -n 1', 0),
        ('$PYTHON -c "$SCRIPT" > /dev/full', 0),
        ('$PYTHON -c "$SCRIPT" >&- 2>&-', 0),
    ],
)
def test_shells_may_do_with_the_output_what_they_like(shell: str, code: int, tmp_path: Path) -> None:
    text = RECIPE.replace("EPOCHS", "2").replace("Phase(2, 8,", "Phase(2, 8, name='Größe 中', lr=")
    (tmp_path / "tiny.py").write_text(text, encoding="utf-8")
    script = (
        "import budgetnet as b; p = b.read_plan('tiny.py'); "
        "b.Trainer().fit(p.model(), p.data(), p.recipe, name='tiny')"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(budgetnet.__file__).parents[1]),
        "PYTHON": sys.executable,
        "RUN": f"{sys.executable} -c __import__('budgetnet.cli').cli.main() run tiny.py",
        "SCRIPT": script,
    }
    found = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert found.returncode == code, found.stderr.decode()
    assert b"Traceback" not in found.stderr
    run = Run.read(tmp_path / "runs/tiny-1")
    assert run.status == "finished"
    assert len(run.history) == 4


@pytest.mark.slow
def test_ctrl_c_into_a_pipe_whose_reader_it_ends_too_stops_the_run_as_ever(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(RECIPE.replace("EPOCHS", "3000"))
    command = [sys.executable, "-c", "from budgetnet.cli import main; main()", "run", "tiny.py"]
    environment = {**os.environ, "PYTHONPATH": str(Path(budgetnet.__file__).parents[1])}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert any("px  loss" in line for line in process.stdout)
        process.stdout.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    finally:
        process.kill()
    run = Run.read(tmp_path / "runs/tiny-1")
    assert run.status == "stopped"
    assert any((tmp_path / "runs/tiny-1/checkpoints").iterdir())
