"""Owner: one writer a folder; what the dead held is free."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import coloured
from torch import nn

from budgetnet import Data, Phase, Recipe, Run, Trainer
from budgetnet.owner import LOCK, is_owned, owned

HOLD = """
import sys, time
from pathlib import Path
from budgetnet.owner import owned
with owned(Path(sys.argv[1])):
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
        assert is_owned(tmp_path)
        told = pytest.raises(ValueError, match=f"is being trained by process {process.pid}; wait for it")
        with told, owned(tmp_path):
            pass
    finally:
        process.kill()
        process.wait()


def test_what_a_killed_process_held_is_free_at_once(tmp_path: Path) -> None:
    for _ in range(5):
        process = holder(tmp_path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        begun = time.monotonic()
        with owned(tmp_path):
            assert is_owned(tmp_path)
        assert time.monotonic() - begun < 1
        assert not is_owned(tmp_path)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with owned(tmp_path):
        assert (tmp_path / LOCK).read_text() == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


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
    assert not is_owned(run.folder)
    assert trainer.fit(model, data, recipe, resume=run.folder).status == "finished"
    assert not (run.folder / LOCK).exists()


def test_epochs_own_their_folder_until_they_end(data: Data, tmp_path: Path, model: nn.Module) -> None:
    run = Run.new(tmp_path, "mine")
    epochs = Trainer("cpu", out=None, show=False).epochs(model, data, Recipe([Phase(3, 12, 0.1)]), run)
    next(epochs)
    assert is_owned(run.folder)
    with pytest.raises(ValueError, match="is being trained"):
        next(
            Trainer("cpu", show=False).epochs(
                model, data, Recipe([Phase(3, 12, 0.1)]), Run(folder=run.folder)
            )
        )
    epochs.close()  # type: ignore[attr-defined]
    assert not is_owned(run.folder)
