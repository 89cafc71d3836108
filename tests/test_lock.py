"""Owner: one writer a folder; what the dead held is free."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import coloured
from torch import nn
from trials import trials

from budgetnet import Data, Phase, Recipe, Run, Trainer
from budgetnet.files import LOCK, is_locked, locked

HOLD = """
import sys, time
from pathlib import Path
from budgetnet.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        assert is_locked(tmp_path)
        told = pytest.raises(ValueError, match=f"is being trained by process {process.pid}; wait for it")
        with told, locked(tmp_path):
            pass
    finally:
        process.kill()
        process.wait()


def test_what_a_killed_process_held_is_free_at_once(tmp_path: Path) -> None:
    for _ in range(5):
        process = holder(tmp_path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with locked(tmp_path):
            assert is_locked(tmp_path)
        assert not is_locked(tmp_path)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text() == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_of_many_starters_one_owns(tmp_path: Path) -> None:
    code = HOLD.replace("time.sleep(60)", "time.sleep(1.5)")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    outputs = [process.communicate()[0] for process in processes]
    # They start within the time that the first holds it, or after it has let go: never two at once.
    assert "held\n" in outputs
    assert {process.returncode for process in processes} <= {0, 1}


def test_a_run_that_is_being_trained_cannot_be_resumed(data: Data, tmp_path: Path, model: nn.Module) -> None:
    recipe = Recipe([Phase(2, 12, 0.1)], batch_size=120)
    trainer = Trainer("cpu", out=tmp_path, show=False)
    run = trainer.fit(model, data, recipe, max_time=1e-9)
    process = holder(run.folder)
    try:
        with pytest.raises(ValueError, match="is being trained by process"):
            trainer.fit(model, data, recipe, resume=run.folder)
    finally:
        process.kill()
        process.wait()
    assert trainer.fit(model, data, recipe, resume=run.folder).status == "finished"


def test_a_refused_resume_lets_go(data: Data, tmp_path: Path, model: nn.Module) -> None:
    recipe = Recipe([Phase(2, 12, 0.1)], batch_size=120)
    trainer = Trainer("cpu", out=tmp_path, show=False)
    run = trainer.fit(model, data, recipe, max_time=1e-9)
    with pytest.raises(ValueError, match="cannot go on exactly"):
        trainer.fit(model, coloured(seed=4), recipe, resume=run.folder)
    assert not is_locked(run.folder)
    assert trainer.fit(model, data, recipe, resume=run.folder).status == "finished"
    assert not (run.folder / LOCK).exists()


def test_epochs_own_their_folder_until_they_end(data: Data, tmp_path: Path, model: nn.Module) -> None:
    run = Run.new(tmp_path, "mine")
    epochs = Trainer("cpu", out=None, show=False).epochs(model, data, Recipe([Phase(3, 12, 0.1)]), run)
    next(epochs)
    assert is_locked(run.folder)
    with pytest.raises(ValueError, match="is being trained"):
        next(
            Trainer("cpu", show=False).epochs(
                model, data, Recipe([Phase(3, 12, 0.1)]), Run(folder=run.folder)
            )
        )
    epochs.close()  # type: ignore[attr-defined]
    assert not is_locked(run.folder)


RACE = """
import sys
from pathlib import Path
from budgetnet.files import locked
# Everything is imported: both start at the same line of the same pipe.
print("ready", flush=True)
for line in sys.stdin:
    try:
        with locked(Path(line.strip())):
            print("owns", flush=True)
            sys.stdin.readline()
    except ValueError as error:
        print(error, flush=True)
        sys.stdin.readline()
    print("out", flush=True)
"""


def racer() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", RACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("count", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_of_two_that_start_at_once_one_owns(tmp_path: Path, count: int) -> None:
    racers = [racer(), racer()]
    winners = set()
    try:
        for number in range(trials(count)):
            folder = tmp_path / str(number)
            folder.mkdir()
            for process in racers if number % 2 else reversed(racers):
                say(process, str(folder))
            heard = [hear(process) for process in racers]
            assert heard.count("owns") == 1, heard
            winners.add(heard.index("owns"))
            owner = racers[heard.index("owns")].pid
            (told,) = [line for line in heard if line != "owns"]
            assert f"is being trained by process {owner};" in told or "process (unknown)" in told
            for process in racers:
                say(process, "let go")
            assert [hear(process) for process in racers] == ["out", "out"]
            assert list(folder.iterdir()) == []
    finally:
        for process in racers:
            process.kill()
            process.wait()
    assert winners == {0, 1} or count < 50


def forked(folder: Path) -> int:
    """A child that owns the folder by the time that this returns."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with locked(folder):
            os.write(writing, b"held")
            time.sleep(60)
        os._exit(0)
    os.close(writing)
    assert os.read(reading, 4) == b"held"
    os.close(reading)
    return child


@pytest.mark.parametrize("count", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_what_killed_owners_held_is_reclaimed(tmp_path: Path, count: int) -> None:
    for _ in range(trials(count)):
        child = forked(tmp_path)
        assert is_locked(tmp_path)
        os.kill(child, signal.SIGKILL)
        # Not even waited for: a dead process holds nothing.
        while True:
            try:
                with locked(tmp_path):
                    break
            except ValueError:
                time.sleep(0.001)
        os.waitpid(child, 0)
        assert not is_locked(tmp_path)


def test_who_only_looks_keeps_nobody_from_starting(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    child = os.fork()
    if child == 0:
        while True:
            is_locked(tmp_path)
    try:
        for _ in range(60):
            with locked(tmp_path):
                pass
            (tmp_path / LOCK).touch()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_lock_that_cannot_be_taken_is_refused_and_another_ones_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = forked(tmp_path)
    try:

        def failing(descriptor: int, operation: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(fcntl, "flock", failing)
            with pytest.raises(ValueError, match="cannot be written: Input/output error"), locked(tmp_path):
                pass
        assert (tmp_path / LOCK).read_text() == str(child)
        assert is_locked(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_twenty_that_make_a_run_at_once_share_none(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    begin, go = os.pipe()
    children = []
    for _ in range(20):
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(begin, 1)
            # They all begin where the pipe is closed.
            for _ in range(3):
                os.write(writing, f"{Run.new(tmp_path / 'a' / 'runs', 'run').folder}\n".encode())
            os._exit(0)
        children.append(child)
    os.close(writing)
    os.close(begin)
    os.close(go)
    with os.fdopen(reading) as pipe:
        made = pipe.read().split()
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 20
    assert len(made) == len(set(made)) == 60
    assert {path.name for path in (tmp_path / "a" / "runs").iterdir()} == {f"run-{k}" for k in range(1, 61)}


def test_many_threads_that_make_a_run_at_once_share_none(tmp_path: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda _: Run.new(tmp_path / "runs", "run").folder, range(40)))
    assert len(set(made)) == 40
