"""Many workers of one search: each trial ends once, none is lost, none doubled, whoever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from postgres import postgres
from test_sweep import TINY

from budgetnet import Trainer, read_plan
from budgetnet.files import checkpoint
from budgetnet.run import Run

LR = "recipe.phases.0.lr.peak"
TRIALS = 8


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path


def worker(storage: str) -> subprocess.Popen[bytes]:
    own = ["--trials", str(TRIALS), "--name", "many", "--storage", storage, "--device", "cpu"]
    # A checkpoint of each step that is half a second after the one before.
    code = "from budgetnet.trainer import saver; saver.EVERY, saver.COST = 0.5, 0; "
    code += "from budgetnet.cli import main; main()"
    command = ["sweep", "tiny.py", "--set", "recipe.phases.0.epochs=100"]
    search = ["--search", f"{LR}=log:1e-3..1", "--search", "model.width=4..60", "--prune", "none"]
    log = open(f"log-{time.monotonic_ns()}", "wb")  # noqa: SIM115
    return subprocess.Popen([sys.executable, "-c", code, *command, *search, *own], stdout=log, stderr=log)


def training(process: subprocess.Popen[bytes]) -> Path | None:
    """The folder of the run that a worker trains and has saved itself: its session is in the record."""
    for owner in Path("runs/many").glob("trial-*/.owner"):
        try:
            if owner.read_text() == str(process.pid):
                since = owner.stat().st_mtime_ns
                saved = (owner.parent / checkpoint.FOLDER).glob("[0-9]*")
                if any(path.stat().st_mtime_ns > since for path in saved):
                    return owner.parent
        except OSError:
            continue
    return None


def killed(workers: list[subprocess.Popen[bytes]]) -> Path:
    """Kill one of the workers in the middle of a run; gives the run's folder, and takes it off the list."""
    until = time.monotonic() + 200
    while time.monotonic() < until and all(each.poll() is None for each in workers):
        for each in workers:
            folder = training(each)
            if folder is not None:
                each.kill()
                assert each.wait() == -signal.SIGKILL
                workers.remove(each)
                return folder
        time.sleep(0.02)
    raise AssertionError("no worker came to a checkpoint")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_workers_of_a_postgresql_two_killed_end_each_trial_once() -> None:
    import optuna

    with postgres() as storage:
        workers = [worker(storage) for _ in range(4)]
        try:
            broken = [killed(workers), killed(workers)]
            assert [each.wait(300) for each in workers] == [0, 0], [
                path.read_text()[-2000:] for path in Path().glob("log-*")
            ]
        finally:
            for each in workers:
                each.kill()
        trials = optuna.load_study(study_name="many", storage=storage).get_trials()
    tries = [trial.number + 1 for trial in trials if trial.user_attrs.get("ending") != "refused"]
    assert len(tries) == TRIALS
    assert {trials[number - 1].state.name for number in tries} == {"COMPLETE"}
    runs = [Run.read(path.parent) for path in Path("runs/many").glob("trial-*/run.json")]
    assert Counter(run.status for run in runs) == {"finished": TRIALS}
    assert sorted(run.record["search"]["trial"] for run in runs) == tries
    assert sum("test_accuracy" in run.result for run in runs) == 1
    # The runs of the killed workers went on from their checkpoints, and have the bits of unbroken ones.
    for folder in broken:
        run = Run.read(folder)
        # The second kill may have hit the worker that went on with the first one's run.
        assert len(run.record["sessions"]) == 1 + broken.count(folder)
        plan = read_plan("tiny.py").settled([*run.record["settings"], "recipe.measure=('val',)"])
        whole = Trainer("cpu", show=False, out=None).fit(plan.model(), plan.data(), plan.recipe)
        assert [epoch.val_loss for epoch in run.history] == [epoch.val_loss for epoch in whole.history]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_command_has_several_workers_and_a_stop_reaches_all() -> None:
    command = [sys.executable, "-m", "budgetnet", "sweep", "tiny.py", "--search", f"{LR}=log:1e-3..1"]
    options = ["--trials", "4", "--name", "both", "--together", "2", "--device", "cpu", "--prune", "none"]
    # The first trial is still at work when the second one begins, seconds later, on a fast machine too.
    slow = ["--set", "recipe.phases.0.epochs=800"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    first = subprocess.Popen([*command, *options, *slow], env=environment, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while time.monotonic() < until and len(list(Path("runs/both").glob("trial-*/.owner"))) < 2:
        time.sleep(0.05)
    owners = {path.read_text() for path in Path("runs/both").glob("trial-*/.owner")}
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    assert len(owners) == 2
    assert not list(Path("runs/both").glob("trial-*/.owner"))
    subprocess.run([*command, *options, *slow], env=environment, check=True, stdout=subprocess.DEVNULL)
    runs = [Run.read(path.parent) for path in Path("runs/both").glob("trial-*/run.json")]
    assert sorted(run.record["search"]["trial"] for run in runs) == [1, 2, 3, 4]
    assert {run.status for run in runs} == {"finished"}
    assert {run.record["threads"] for run in runs} == {1}
    assert sum(len(run.record["sessions"]) for run in runs) == 6
