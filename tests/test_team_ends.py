"""Processes that train one run leave together: at a signal, a time, a NaN, a watcher's word, or a failure."""

import math
import os
import random
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import coloured
from processes import Processes, environment, together
from torch import Tensor, nn

from budgetnet import BackOff, EndTraining, Phase, Recipe, Run, Trainer
from budgetnet.files import checkpoint
from budgetnet.run import Note
from budgetnet.trainer import saver

pytestmark = [
    pytest.mark.forks,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no torch.distributed"),
]

TRIALS = round(20 * float(os.environ.get("BUDGETNET_TRIALS", "1")))
STEPS: list[int] = []
"""The steps that this process has taken."""


def doomed(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """A step that ends the process that the environment names, at a step that it names."""
    STEPS.append(len(STEPS))
    if os.environ.get("RANK") == os.environ.get("DOOMED", "") and len(STEPS) == 13:
        os.kill(os.getpid(), int(os.environ["BY"]))
    return images, labels


def poisoned(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """A step that shows, once, what is no number."""
    STEPS.append(len(STEPS))
    return images * (math.nan if len(STEPS) == 13 else 1.0), labels


class Plain(nn.Module):
    """Two layers, and no norm; `short` of memory in the process that the environment names."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.inner, self.outer = nn.Linear(3 * 12 * 12, 8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        if os.environ.get("RANK") == os.environ.get("SHORT", "") and len(images) > 3 and self.training:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.outer(torch.relu(self.inner(images.flatten(1))))


def recipe(**changes: Any) -> Recipe:
    return Recipe([Phase(4, 12, 0.02, augment=[doomed])], batch_size=9, **changes)


def trained(out: Path | None, asked: Recipe | None = None, watch: Any = (), **options: Any) -> Any:
    """The weights that a run of 20 steps comes to, its status, its epochs and its notes."""
    torch.set_num_threads(1)
    STEPS.clear()
    notes: list[str] = []
    data = coloured(45, val=20)
    trainer = Trainer("cpu", out=out, show=False, watch=[*watch, lambda e: _noted(e, notes)])
    run = trainer.fit(Plain(), data, asked or recipe(), **options)
    assert run.model is not None
    flat = torch.cat([each.detach().flatten() for each in run.model.parameters()])
    return {"weights": flat.numpy(), "status": run.status, "epochs": len(run.history), "notes": notes}


def _noted(event: object, notes: list[str]) -> None:
    if isinstance(event, Note):
        notes.append(str(event))


def apart(one: Any, other: Any) -> float:
    first, second = torch.from_numpy(one["weights"]), torch.from_numpy(other["weights"])
    return float((first - second).norm() / first.norm())


def the_run(out: Path) -> Run:
    (folder,) = out.iterdir()
    return Run.read(folder)


@pytest.mark.parametrize("size", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_signal_to_one_ends_all_and_any_number_of_processes_goes_on(size: int, tmp_path: Path) -> None:
    out, told = tmp_path / "runs", {"DOOMED": "1", "BY": str(int(signal.SIGTERM))}
    with Processes(2, lambda rank: trained(out), tmp_path / "a", **told) as processes:
        assert processes.wait() == {0: 3, 1: 3}
        assert [processes.error(rank) for rank in (0, 1)] == ["SystemExit: 143"] * 2
    assert the_run(out).status == "stopped"
    folder = the_run(out).folder
    assert folder is not None
    newest, _ = checkpoint.newest(folder)
    # A trial of the steps comes before the first one.
    assert newest is not None
    assert 10 <= newest.step <= 13
    if size == 1:
        resumed = trained(out, resume=folder)
    else:
        resumed = together(size, lambda rank: trained(out, resume=folder), tmp_path / "b")[0]
    assert apart(trained(None), resumed) < 1e-5
    assert the_run(out).status == "finished"
    assert f"processes: 2 -> {size}" in str(the_run(out).record["sessions"][1]["moved"])


def test_the_time_is_up_for_all_at_once(tmp_path: Path) -> None:
    # A clock of one process is enough.
    def work(rank: int) -> Any:
        return trained(tmp_path / "runs", max_time=0.01 if rank else 1000.0)

    answers = together(2, work, tmp_path / "a")
    assert [each["status"] for each in answers] == ["paused", "paused"]


def test_what_is_no_number_ends_all_in_the_same_step(tmp_path: Path) -> None:
    asked = Recipe([Phase(4, 12, 1e30, augment=[])], batch_size=9)
    with Processes(2, lambda rank: trained(None, asked), tmp_path, hidden="1") as processes:
        assert processes.wait() == {0: 1, 1: 1}
        assert processes.error(0).startswith("NotFinite: ")
        assert processes.error(0) == processes.error(1)


@pytest.mark.slow
def test_a_step_is_taken_back_by_all(tmp_path: Path) -> None:
    asked = Recipe([Phase(4, 12, 0.02, augment=[poisoned])], batch_size=9, on_nan=BackOff(limit=2))
    alone = trained(None, asked)
    answers = together(2, lambda rank: trained(None, asked), tmp_path)
    assert any("the step is undone" in note for note in alone["notes"])
    assert apart(alone, answers[0]) < 1e-5
    assert apart(*answers) == 0


def test_where_one_is_short_of_memory_all_take_smaller_parts(tmp_path: Path) -> None:
    answers = together(2, lambda rank: trained(None), tmp_path, SHORT="1")
    assert apart(trained(None), answers[0]) < 1e-5
    assert apart(*answers) == 0
    assert any("in 2 parts" in note for note in answers[0]["notes"])


def _ending(event: object) -> None:
    if getattr(event, "number", 0) == 7 and getattr(event, "images", 0) == 9:
        raise EndTraining


def test_a_watchers_word_ends_all(tmp_path: Path) -> None:
    answers = together(2, lambda rank: trained(tmp_path / "runs", watch=[_ending]), tmp_path / "a")
    assert [(each["status"], each["epochs"]) for each in answers] == [("ended early", 1)] * 2
    assert apart(*answers) == 0


@pytest.mark.slow
def test_processes_that_would_train_different_things_are_refused(tmp_path: Path) -> None:
    def work(rank: int) -> Any:
        return trained(tmp_path / "runs", recipe(seed=rank))

    with Processes(2, work, tmp_path / "a", hidden="1") as processes:
        assert processes.wait() == {0: 1, 1: 1}
        assert "process 1 differs from process 0: recipe.seed: 0 -> 1" in processes.error(1)
        assert "all processes should train the same" in processes.error(0)
    assert not list((tmp_path).glob("runs/*"))


@pytest.mark.parametrize(
    ("by", "why"),
    [(signal.SIGKILL, "one of the others is gone"), (signal.SIGSTOP, "one of the others hangs")],
)
def test_who_is_killed_or_hangs_is_noticed(by: signal.Signals, why: str, tmp_path: Path) -> None:
    # A loaded machine may take seconds for a step.
    patience = "5" if by == signal.SIGSTOP else "100"
    told = {"DOOMED": "1", "BY": str(int(by)), "BUDGETNET_PATIENCE": patience, "hidden": "1"}
    with Processes(2, lambda rank: trained(tmp_path / "runs"), tmp_path / "a", **told) as processes:
        begun = time.monotonic()
        while 0 not in processes.wait(0.2) and time.monotonic() - begun < 60:
            pass
        assert processes.codes.get(0) == 1
        assert why in processes.error(0)
        assert processes.error(0).startswith("TrainingFailed: the processes that train together lost one")
    assert the_run(tmp_path / "runs").status == "failed"


@pytest.mark.slow
def test_processes_that_are_started_again_go_on_with_their_run(tmp_path: Path) -> None:
    out, told = tmp_path / "runs", {"DOOMED": "0", "BY": str(int(signal.SIGTERM))}
    with Processes(2, lambda rank: trained(out), tmp_path / "a", **told) as processes:
        assert processes.wait() == {0: 3, 1: 3}
    again = together(2, lambda rank: trained(out), tmp_path / "b", TORCHELASTIC_RESTART_COUNT="1")
    assert apart(trained(None), again[0]) < 1e-5
    assert len(the_run(out).record["sessions"]) == 2
    # Of another launch it is none of theirs.
    other = {"TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_RUN_ID": "another"}
    together(2, lambda rank: trained(out), tmp_path / "c", **other)
    assert len(list(out.iterdir())) == 2


def saving(out: Path, rank: int) -> Any:
    """A run that saves each of its steps, which take a moment."""
    saver.EVERY, saver.COST = 0.0, 0.0
    return trained(out, recipe(), watch=[lambda event: time.sleep(0.005)])


@pytest.mark.slow
def test_who_is_killed_at_any_moment_costs_nothing(tmp_path: Path) -> None:
    whole = together(2, lambda rank: trained(None), tmp_path / "whole")[0]
    for trial in range(TRIALS):
        out, draw = tmp_path / f"runs-{trial}", random.Random(trial)
        with Processes(2, partial(saving, out), tmp_path / "a", hidden="1") as processes:
            begun = time.monotonic()
            while not list(out.glob("*/checkpoints/[!.]*")) and time.monotonic() - begun < 60:
                time.sleep(0.005)
            time.sleep(0.15 * draw.random())
            os.kill(processes.ids[draw.randrange(2)], signal.SIGKILL)
            processes.wait(60)
            assert len(processes.codes) == 2
        again = together(2, partial(saving, out), tmp_path / "b", TORCHELASTIC_RESTART_COUNT="1")
        assert apart(whole, again[0]) == 0, trial
        assert the_run(out).status == "finished"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 3}, "phase 1: a batch should have at least 4 images for 2 processes, not 3"),
        ({"speed": "compile"}, "speed should be 'auto' or 'eager' for 2 processes, not 'compile'"),
        ({"within": "1h"}, "within .* measures the steps of one process, and 2 train together"),
    ],
)
def test_what_several_cannot_do_is_refused(changes: dict[str, Any], words: str) -> None:
    from budgetnet.engine import Team
    from budgetnet.trainer.together import check_together

    asked: dict[str, Any] = {"within": None, "speed": "auto", "batch_size": 9, **changes}
    plan = Recipe([Phase(1, 12, 0.1)], batch_size=asked.pop("batch_size"))
    with pytest.raises(ValueError, match=words):
        check_together(Team(0, 2), plan, 45, **asked)


def test_patience_is_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    from budgetnet.engine.team import patience

    monkeypatch.setenv("BUDGETNET_PATIENCE", "soon")
    with pytest.raises(
        ValueError, match="BUDGETNET_PATIENCE should be seconds from 1 to 1000000, not 'soon'"
    ):
        patience()


def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from budgetnet.engine import device_of

    for name, text in environment(1, 2, 1).items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of(None) == device_of("cuda") == torch.device("cuda", 1)
    with pytest.raises(
        ValueError, match="device should be 'cuda', not 'cuda:1': each process has a GPU of its"
    ):
        device_of("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="torchrun should start a process for each of 1 GPUs, and started 2"):
        device_of(None)
    assert math.isfinite(device_of("cpu").index or 0)
