"""Runs and trials as tasks of Ray: the same runs, taken up again when a task's process is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_sweep import TINY

from budgetnet import Trainer, read_plan
from budgetnet.cli import main
from budgetnet.run import Run
from budgetnet.sweep import Cluster, Effort, search, seeds

LR = "recipe.phases.0.lr.peak"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path


def test_what_is_no_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("dask", "http://host", ""):
        with pytest.raises(ValueError, match="on ray or ray://HOST"):
            Cluster(wrong)
    with pytest.raises(ValueError, match="a task's cpus"):
        Cluster(cpus=0)
    plan = read_plan("tiny.py")
    with pytest.raises(ValueError, match="share a database"):
        search(Trainer("cpu", show=False), plan, {LR: "1..2"}, effort=Effort(together=Cluster("ray://head")))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'budgetnet\[ray\]'"):
        seeds(Trainer("cpu", show=False), plan, 2, together=Cluster())
    refused = CliRunner().invoke(main, ["run", "tiny.py", "--on", "ray"])
    assert refused.exit_code == 2
    assert "--on are for several runs" in refused.output


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_local_ray_of_two_takes_trials_and_seeds_and_one_task_is_killed() -> None:
    pytest.importorskip("ray")
    own = ["--trials", "4", "--name", "tasks", "--device", "cpu", "--prune", "none", "--on", "ray"]
    options = ["--search", f"{LR}=log:1e-3..1", "--set", "recipe.phases.0.epochs=300", *own]
    code = "from budgetnet.cli import main; import ray; ray.init(num_cpus=2, include_dashboard=False); main()"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    with open("log", "wb") as log:
        search = subprocess.Popen(
            [*command, "sweep", "tiny.py", *options], env=environment, stdout=log, stderr=log
        )
        killed, until = "", time.monotonic() + 300
        while not killed and time.monotonic() < until and search.poll() is None:
            for owner in Path("runs/tasks").glob("trial-*/.owner"):
                killed = killed or owner.read_text()
            time.sleep(0.1)
        assert killed, Path("log").read_text()[-3000:]
        os.kill(int(killed), signal.SIGKILL)
        assert search.wait(400) == 0, Path("log").read_text()[-3000:]
    runs = [Run.read(path.parent) for path in Path("runs/tasks").glob("trial-*/run.json")]
    assert sorted(run.record["search"]["trial"] for run in runs) == [1, 2, 3, 4]
    assert {run.status for run in runs} == {"finished"}
    assert {run.record["threads"] for run in runs} == {1}
    # The same runs that it would have here.
    several = ["run", "tiny.py", "--seeds", "2", "--folds", "2", "--on", "ray", "--device", "cpu", "-q"]
    subprocess.run([*command, *several], env=environment, check=True, stdout=subprocess.DEVNULL)
    folds = seeds(Trainer("cpu", show=False, out="here"), read_plan("tiny.py"), 2, folds=2)
    for run, alone in zip((Run.read(f"runs/tiny-{at + 1}") for at in range(4)), folds, strict=True):
        assert run.record["fold"] == alone.record["fold"]
        assert [epoch.val_loss for epoch in run.history] == pytest.approx(
            [epoch.val_loss for epoch in alone.history], rel=1e-5
        )
    assert list(Path("runs").glob("*-out-of-fold.csv"))
