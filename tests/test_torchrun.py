"""Through a real torchrun: one run, one folder; what is killed, cut or hung goes on, and nobody is left."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from budgetnet import Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no torch.distributed"),
]
RECIPE = '''
"""Tiny: three colours."""

import os
import time

import torch
from torch import nn

from budgetnet import SGD, Budget, Data, Flip, Mixup, Phase, Recipe, arrays, models


def model() -> nn.Module:
    return Budget(params="20k").build(models.convnet, classes=3, widths=(8, 16))


def data() -> Data:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(66) % 3
    images = torch.randint(0, 160, (66, 3, 12, 12), generator=generator, dtype=torch.uint8)
    images[torch.arange(66), labels] += 40
    return arrays(images[:48], labels[:48], val=(images[48:], labels[48:]), classes=("red", "green", "blue"))


def slowly(images, labels):
    time.sleep(0.02)
    return images, labels


steps = [Flip(), Mixup(0.4), slowly]
recipe = Recipe([Phase(epochs=6, resolution=12, lr=0.02, augment=steps)], SGD(), batch_size=8)
'''
SOON = """
import sys
from budgetnet.trainer import saver
saver.EVERY, saver.COST = 0.2, 0.0
from budgetnet.cli import main
main(sys.argv[1:])
"""
"""The command with a checkpoint at every fifth of a second."""
SCRIPT = """
from tiny import data, model, recipe

from budgetnet import Trainer

if __name__ == "__main__":
    run = Trainer("cpu", sync_batchnorm=True).fit(model(), data(), recipe, name="script")
    assert run.status == "finished"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.py").write_text(RECIPE)
    (tmp_path / "soon.py").write_text(SOON)
    (tmp_path / "fit.py").write_text(SCRIPT)
    return tmp_path


@contextmanager
def torchrun(
    folder: Path, *arguments: str, size: int = 2, patience: float = 300, restarts: int = 0
) -> Iterator[subprocess.Popen[str]]:
    """torchrun in a session of its own, which is over when the block is left, with all that it started."""
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    told = {"OMP_NUM_THREADS": "1", "BUDGETNET_PATIENCE": str(patience), "PYTHONPATH": str(folder)}
    process = subprocess.Popen(
        [*started, "--max-restarts", str(restarts), *arguments],
        cwd=folder,
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for child in [*workers(process.pid), process.pid]:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def workers(parent: int) -> list[int]:
    """The processes that a process has started, by /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return sorted(found)


def until(condition: Callable[[], bool], seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def epochs(folder: Path, name: str) -> int:
    """The lines of metrics of a run."""
    file = folder / "runs" / f"{name}-1" / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.mark.parametrize("started", [["-m", "budgetnet", "run", "tiny.py", "--device", "cpu"], ["fit.py"]])
def test_several_processes_train_one_run_into_one_folder(started: list[str], folder: Path) -> None:
    with torchrun(folder, *started) as process:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
    (run,) = [Run.read(path) for path in (folder / "runs").iterdir()]
    assert run.status == "finished"
    assert run.record["sessions"][0]["processes"].startswith("2")
    assert output.count("the run lies in") + output.count("lie in") == 1


def test_who_is_killed_is_started_again_and_the_run_goes_on(folder: Path) -> None:
    run = ["soon.py", "run", "tiny.py", "--device", "cpu", "--sync-batchnorm"]
    with torchrun(folder, *run, "--name", "whole") as process:
        assert process.wait(240) == 0
    with torchrun(folder, *run, "--name", "killed", restarts=3) as process:
        kept = folder / "runs" / "killed-1" / "checkpoints"
        assert until(lambda: any(kept.glob("[!.]*")) and epochs(folder, "killed") > 0)
        started = workers(process.pid)
        os.kill(random.choice(started), signal.SIGKILL)
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output
    whole, killed = (Run.read(folder / "runs" / f"{name}-1") for name in ("whole", "killed"))
    assert [each.name for each in (folder / "runs").iterdir() if each.name.startswith("killed")] == [
        "killed-1"
    ]
    assert killed.status == "finished"
    assert len(killed.record["sessions"]) == 2
    assert [each.val_loss for each in killed.history] == [each.val_loss for each in whole.history]


def test_who_hangs_is_noticed_and_nobody_is_left(folder: Path) -> None:
    with torchrun(folder, "soon.py", "run", "tiny.py", "--device", "cpu", patience=3) as process:
        assert until(lambda: epochs(folder, "tiny") > 0)
        started = workers(process.pid)
        os.kill(started[-1], signal.SIGSTOP)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "one of the others hangs: it did not answer for 3 seconds" in output
        assert not any(Path(f"/proc/{worker}").exists() for worker in started)


def test_a_stop_of_torchrun_saves_and_another_number_goes_on(folder: Path) -> None:
    run = ["soon.py", "run", "tiny.py", "--device", "cpu", "--sync-batchnorm"]
    with torchrun(folder, *run) as process:
        assert until(lambda: epochs(folder, "tiny") > 0)
        process.send_signal(signal.SIGTERM)
        process.wait(120)
    assert Run.read(folder / "runs" / "tiny-1").status == "stopped"
    with torchrun(folder, *run, "--resume", size=3) as process:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
    assert Run.read(folder / "runs" / "tiny-1").status == "finished"
    assert "processes: 2, batch norms synchronised -> 3, batch norms synchronised" in output
