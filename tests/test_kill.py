"""Killed anywhere, a training goes on to the very bits that it would have had.

Each life is a fork of this process that kills itself at one of its own file operations, or between the parts
of a step; the next one resumes. BUDGETNET_TRIALS multiplies how many places are tried.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import coloured
from torch import nn

from budgetnet import (
    EMA,
    SGD,
    Adam,
    Budget,
    Cosine,
    Flip,
    Phase,
    Recipe,
    Restarts,
    Rotate,
    Run,
    Trainer,
    models,
)
from budgetnet import checkpoint as checkpoints
from budgetnet.trainer import loop, saver

TRIALS = float(os.environ.get("BUDGETNET_TRIALS", "1"))
RECIPES = {
    "plain": (
        Recipe([Phase(2, 12, Cosine(0.1), augment=[Rotate(10), Flip()])], SGD(), batch_size=60),
        "float32",
    ),
    "averaged, restarts, 12 to 16 px": (
        Recipe(
            [Phase(1, 12, Restarts(0.05, first=0.5), augment=[Flip()]), Phase(1, 16, 0.01, start="best")],
            Adam(weight_decay=1e-4),
            batch_size=60,
            average=EMA(0.9),
            keep="averaged",
        ),
        "float32",
    ),
    "bf16": (Recipe([Phase(2, 12, 0.05)], Adam(), batch_size=80, clip=1.0, keep="best"), "bf16"),
}
WATCHED = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")

# An audit hook cannot be taken off again: this one does nothing until it is given a count to kill at.
_kill_at: list[int] = []
_events: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _kill_at or event not in WATCHED:
        return
    if event == "open" and not str(arguments[1] or "").strip("r").strip("b") and not (arguments[2] or 0) & 3:
        return
    _events.append(event)
    if len(_events) == _kill_at[0]:
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(_hook)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Budget(params="10k").build(models.convnet, classes=3, widths=(4, 8), dropout=0.2)


def digest(model: nn.Module, run: Run) -> str:
    """One number for the final weights and everything that was measured."""
    summed = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        summed.update(name.encode())
        summed.update(tensor.detach().contiguous().numpy().tobytes())
    for epoch in run.history:
        entries = json.loads(epoch.line())
        for timed in [k for k in entries if k.endswith("_seconds") or k == "images_per_second"]:
            entries.pop(timed)
        summed.update(json.dumps(entries).encode())
    return summed.hexdigest()


def train(name: str, out: Path) -> str:
    """The run of this name begun, or gone on with, in the folder `out`; its digest."""
    recipe, precision = RECIPES[name]
    trainer = Trainer("cpu", precision=precision, out=out, show=False)  # type: ignore[arg-type]
    model, data = network(), coloured(val=30)
    unfinished = [
        path
        for path in sorted(out.glob("run-*"))
        if any((path / checkpoints.FOLDER).glob("[0-9]*")) and Run.read(path).status != "finished"
    ]
    run = trainer.fit(model, data, recipe, resume=unfinished[-1] if unfinished else None)
    return digest(model, run)


def life(work: Callable[[], str], kill_at: int) -> tuple[str | None, int]:
    """What `work` gives in a process of its own that kills itself at its n-th event; how many there were."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _kill_at[:], _events[:] = [kill_at], []
            found = work()
            count = len(_events)
            _kill_at.clear()
            os.write(writing, f"{found} {count}".encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    if not answer:
        return None, 0
    found, count = answer.split()
    return found, int(count)


@pytest.fixture(autouse=True)
def saving_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saver, "EVERY", 0.0)
    monkeypatch.setattr(saver, "COST", 0.0)
    # Disks are not what is tried here: a killed process loses nothing that was written.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True, scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Everything that a training imports on its way is there before the first fork."""
    for name in RECIPES:
        train(name, tmp_path_factory.mktemp("imported"))


def ends_as_it_would_have(name: str, out: Path, places: list[int]) -> None:
    expected, _ = life(lambda: train(name, out / "whole"), 0)
    assert expected is not None
    for place in places:
        folder = out / str(place)
        folder.mkdir()
        found, _ = life(lambda folder=folder: train(name, folder), place)  # type: ignore[misc]
        # A later life is killed once more, somewhere else, and the last one is let go on.
        if found is None:
            found, _ = life(lambda folder=folder: train(name, folder), 1 + place // 2)  # type: ignore[misc]
        if found is None:
            found, _ = life(lambda folder=folder: train(name, folder), 0)  # type: ignore[misc]
        assert found == expected, f"killed at event {place}"
        # Runs killed before their first checkpoint, or while they ended, lie beside as they were left.
        finished = max(folder.glob("run-*"), key=lambda path: int(path.name.removeprefix("run-")))
        names = {path.name for path in finished.iterdir()}
        assert names == {"model.safetensors", "run.json", "metrics.jsonl", "seen.safetensors"}


def events(name: str, out: Path) -> int:
    """How many events an undisturbed life has."""
    found, count = life(lambda: train(name, out / "counted"), 10**9)
    assert found is not None
    return count


@pytest.mark.parametrize("name", RECIPES)
def test_killed_at_some_file_operation(name: str, tmp_path: Path) -> None:
    count = events(name, tmp_path)
    assert count > 60
    draw = random.Random(0)
    ends_as_it_would_have(
        name, tmp_path, sorted(draw.sample(range(1, count), min(count - 1, round(6 * TRIALS))))
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_ten_times_as_many_file_operations(tmp_path: Path) -> None:
    # A process of its own: a fork of one in which other tests have used several threads cannot compute.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--basetemp={tmp_path / 'own'}",
    ]
    environment = {**os.environ, "BUDGETNET_TRIALS": str(10 * TRIALS)}
    found = subprocess.run(
        [*command, __file__, "-k", "some_file_operation"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "3 passed" in found.stdout


PARTS = ("before the step", "before the update", "after the step")


@pytest.mark.parametrize("name", RECIPES)
def test_killed_in_every_step(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = life(lambda: train(name, tmp_path / "whole"), 0)
    take = loop.take
    for place in PARTS:
        for step in range(0, 6, 1 if TRIALS > 1 else 3):

            def dying(training: Any, phase: Any, optimizer: Any, *rest: Any) -> Any:
                def die(*ignored: Any) -> None:
                    os.kill(os.getpid(), signal.SIGKILL)

                if training.step == step and place == "before the step":  # noqa: B023
                    die()
                if training.step == step and place == "before the update":  # noqa: B023
                    optimizer.register_step_pre_hook(die)
                found = take(training, phase, optimizer, *rest)
                if training.step == step and place == "after the step":  # noqa: B023
                    die()
                return found

            folder = tmp_path / f"{place}-{step}"
            monkeypatch.setattr(loop, "take", dying)
            assert life(lambda folder=folder: train(name, folder), 0)[0] is None  # type: ignore[misc]
            monkeypatch.setattr(loop, "take", take)
            found, _ = life(lambda folder=folder: train(name, folder), 0)  # type: ignore[misc]
            assert found == expected, f"{place} {step}"
