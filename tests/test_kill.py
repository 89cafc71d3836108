"""Killed anywhere, a training goes on to the very bits that it would have had.

Each life is a fork of this process that kills itself at one of its own file operations, or between the parts
of a step; the next one resumes. BUDGETNET_TRIALS multiplies how many places are tried.
"""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
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
from budgetnet.engine import loop, step
from budgetnet.files import checkpoint as checkpoints
from budgetnet.trainer import saver

TRIALS = float(os.environ.get("BUDGETNET_TRIALS", "1"))
STEPS = 6
"""Steps of each recipe."""
RECIPES = {
    "plain": (
        Recipe([Phase(2, 12, Cosine(0.1), augment=[Rotate(10), Flip()])], SGD(), batch_size=20),
        "float32",
    ),
    "averaged, restarts, 70 to 120 px": (
        Recipe(
            [Phase(1, 70, Restarts(0.05, first=0.5), augment=[Flip()]), Phase(1, 120, 0.01, start="best")],
            Adam(weight_decay=1e-4),
            batch_size=20,
            average=EMA(0.9),
            keep="averaged",
        ),
        "float32",
    ),
    "bf16": (Recipe([Phase(2, 12, 0.05)], Adam(), batch_size=20, clip=1.0, keep="best"), "bf16"),
}
WATCHED = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.listdir")

# An audit hook cannot be taken off again: this one does nothing until it is told where to kill.
_kill_at: list[int] = []
_events: list[str] = []
_place: list[tuple[str, str, int]] = []


def die(*ignored: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hook(event: str, arguments: tuple[Any, ...], watched: tuple[str, ...] = WATCHED) -> None:
    # Named as a default: when Python ends, the module's own names are gone before the hook is.
    if event not in watched:
        return
    if _place and event == _place[0][0] and re.search(_place[0][1], " ".join(map(str, arguments))):
        kind, pattern, left = _place[0]
        if not left:
            die()
        _place[0] = (kind, pattern, left - 1)
    if not _kill_at:
        return
    if event == "open" and not str(arguments[1] or "").strip("r").strip("b") and not (arguments[2] or 0) & 3:
        return
    _events.append(event)
    if len(_events) == _kill_at[0]:
        die()


sys.addaudithook(_hook)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Budget(params="10k").build(models.convnet, classes=3, widths=(4, 8), dropout=0.2)


def digest(model: nn.Module, run: Run, last: Mapping[str, torch.Tensor]) -> str:
    """One number for the final weights, everything measured, and the last checkpoint: optimizer, averages."""
    summed = hashlib.sha256()
    for name, tensor in [*model.state_dict().items(), *sorted(last.items())]:
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
    model, data = network(), coloured(60, val=30)
    unfinished = [
        path
        for path in sorted(out.glob("run-*"))
        if any((path / checkpoints.FOLDER).glob("[0-9]*")) and Run.read(path).status != "finished"
    ]
    remove, last = checkpoints.remove, {}

    def looked_at(folder: Path) -> None:
        held, _ = checkpoints.newest(folder)
        last.update(held.tensors if held is not None else {})
        remove(folder)

    checkpoints.remove = looked_at
    try:
        run = trainer.fit(model, data, recipe, resume=unfinished[-1] if unfinished else None)
    finally:
        checkpoints.remove = remove
    assert saver.EVERY or {name.split("/")[0] for name in last} >= {"model", "optimizer", "weights", "sums"}
    return digest(model, run, last)


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
        files = {"model.safetensors", "run.json", "metrics.jsonl", "seen.safetensors"}
        assert names == {*files, "report.html"}


def events(name: str, out: Path) -> int:
    """How many events an undisturbed life has."""
    found, count = life(lambda: train(name, out / "counted"), 10**9)
    assert found is not None
    return count


@pytest.mark.parametrize("name", RECIPES)
def test_killed_at_some_file_operation(name: str, tmp_path: Path) -> None:
    count = events(name, tmp_path)
    assert count > 60
    # The large images take their time.
    tried = min(count - 1, round((1 if "px" in name else 4) * TRIALS))
    ends_as_it_would_have(name, tmp_path, sorted(random.Random(0).sample(range(1, count), tried)))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_ten_times_as_many_file_operations_and_in_the_steps(tmp_path: Path) -> None:
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
        [*command, __file__, "-k", "some_file_operation or these_steps"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "6 passed" in found.stdout


BEFORE, AFTER = "before", "after"
POINTS: dict[str, tuple[Any, ...]] = {
    "step, before its views": (step, "_batch", BEFORE),
    "step, before the model": (step, "_loss", BEFORE),
    "step, before it goes back": (step, "_loss", AFTER),
    "step, before the update": (step, "update", BEFORE),
    "step, before the average": (step, "update", AFTER),
    "step, at its end": (loop, "take", AFTER),
    "save, before it looks": (saver, "capture", BEFORE),
    "save, before the tensors": ("open", r"\.part/tensors\.safetensors None"),
    "save, between its files": ("open", r"\.part/state\.json None"),
    "save, before the rename": ("os.rename", r"\.part \S*/\d{10} "),
    "save, after the rename": ("open", r"/checkpoints None"),
    "prune, before the rename": ("os.rename", r"\.gone"),
    "prune, before it removes": ("os.listdir", r"\.gone"),
    "prune, between two files": ("os.remove", r"json|safetensors"),
}


def at(name: str, number: int) -> None:
    """Have this process die at the n-th time that it comes to a point, from 0."""
    where, what, *when = POINTS[name]
    if not when:
        _place[:] = [(where, what, number)]
        return
    call, left = getattr(where, what), [number]

    def dying(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0 and when == [BEFORE]:
            die()
        found = call(*arguments, **options)
        if left[0] < 0:
            die()
        return found

    setattr(where, what, dying)


def dies_and_goes_on(name: str, point: str, number: int, folder: Path) -> str | None:
    """The digest of a training that died at a point and went on; None for one that did not die."""

    def dying() -> str:
        at(point, number)
        return train(name, folder)

    if life(dying, 0)[0] is not None:
        return None
    return life(lambda: train(name, folder), 0)[0]


def test_killed_at_named_points_of_step_save_and_prune(tmp_path: Path) -> None:
    name = "plain"
    expected, _ = life(lambda: train(name, tmp_path / "whole"), 0)
    for number, point in enumerate(list(POINTS)[::3]):
        assert dies_and_goes_on(name, point, number % 3, tmp_path / str(number)) == expected, point


def killed_at_steps(name: str, steps: Sequence[int], out: Path) -> None:
    expected, _ = life(lambda: train(name, out / "whole"), 0)
    for point in POINTS:
        for number in steps:
            folder = out / f"{point.replace(' ', '-')}-{number}"
            found = dies_and_goes_on(name, point, number, folder)
            # The first two saves have nothing to prune.
            assert found == expected or (found is None and point.startswith("prune")), f"{point} {number}"


@pytest.mark.skipif(TRIALS < 10, reason="started in a process of its own")
@pytest.mark.parametrize("name", RECIPES)
def test_killed_in_these_steps(name: str, tmp_path: Path) -> None:
    killed_at_steps(name, range(STEPS) if TRIALS >= 100 else (2,), tmp_path)
