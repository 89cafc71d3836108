"""Stopped by signals, kills and time limits, also through the command line, a run ends as it would have."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from conftest import coloured
from lives import RECIPE as RECIPE_FILE
from lives import newest
from safetensors.torch import load_file
from torch import Tensor, nn
from trials import trials

import budgetnet
from budgetnet import Phase, PseudoLabels, Recipe, Run, Trainer
from budgetnet.cli import main
from budgetnet.data import Data, Split
from budgetnet.files import checkpoint as checkpoints
from budgetnet.trainer import saver

TESTS, PACKAGE = Path(__file__).parent, Path(budgetnet.__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(PACKAGE), str(TESTS)]),
    "OMP_NUM_THREADS": "1",
}


def lives(what: str, count: int, out: Path) -> list[dict[str, Any]]:
    """What tests/lives.py tells of so many trials, in a process of its own."""
    command = [sys.executable, str(TESTS / "lives.py"), what, str(count), str(out)]
    found = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    lines = [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]
    assert all(line["same"] for line in lines[1:]), lines
    return lines[1:]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_random_times_and_gone_on_with_elsewhere(tmp_path: Path) -> None:
    found = lives("kills", trials(5), tmp_path)
    assert len(found) == trials(5)
    assert all(line["code"] == 0 for line in found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_signals_end_a_run_with_their_code_and_no_step_lost(tmp_path: Path) -> None:
    for line in lives("signals", trials(6), tmp_path):
        # Before and after the training a signal does what it does to any process; a run that is over is over.
        codes = {143, -signal.SIGTERM, 0} if line["kind"] == "SIGTERM" else {130, -signal.SIGINT, 0}
        assert line["code"] in codes, line
        assert line.get("lost", 0) == 0, line
        assert line["again"] == 0 if line["code"] else True, line


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_cut_into_ten_by_a_time_limit_it_ends_the_same(tmp_path: Path) -> None:
    cut, each = lives("times", 10, tmp_path)
    assert cut["sessions"] >= 3
    # A limit that is over at once still leaves a step to each session; the last one has none to take.
    assert each["sessions"] == 42 + 1
    assert cut["code"] == each["code"] == 0


LOOP = """
until {python} -c 'from budgetnet.cli import main; main(prog_name="budgetnet")' run tiny.py \\
    --resume --max-time 0.000001 >> log; do test $? = 75 || exit 9; done
"""


@pytest.mark.slow
def test_the_shells_loop_ends(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(
        RECIPE_FILE.replace("EPOCHS", "1").replace("batch_size=20", "batch_size=60")
    )
    command = ["sh", "-c", LOOP.format(python=sys.executable)]
    found = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    run = Run.read(tmp_path / "runs" / "tiny-1")
    assert run.status == "finished"
    assert len(run.record["sessions"]) == 3
    assert len(list((tmp_path / "runs").iterdir())) == 1


OFTEN = """
from budgetnet.trainer import saver
saver.EVERY, saver.COST = 0.0, 0.0
from budgetnet.cli import main
main(prog_name="budgetnet")
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_and_gone_on_with_in_processes_of_other_hash_seeds(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(RECIPE_FILE.replace("EPOCHS", "5"))

    def born(out: str, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", OFTEN, "run", str(tmp_path / "tiny.py"), "--resume", "-q"]
        where = tmp_path / f"there-{number}"
        where.mkdir(exist_ok=True)
        environment = {**ENVIRONMENT, "PYTHONHASHSEED": str(number), "HOME": str(where), "TZ": f"UTC{number}"}
        return subprocess.Popen([*command, "--out", str(tmp_path / out)], cwd=where, env=environment)

    assert born("whole", 0).wait(120) == 0
    draw = random.Random(0)
    for trial in range(trials(1)):
        for number in range(1, 3):
            life = born(f"cut-{trial}", number)
            until = time.monotonic() + 60
            folder = tmp_path / f"cut-{trial}" / "tiny-1" / "checkpoints"
            while not any(folder.glob("[0-9]*")) and life.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.5))
            life.kill()
            life.wait()
        last = born(f"cut-{trial}", 3)
        assert last.wait(120) == 0
        whole, cut = (newest(tmp_path / out) for out in ("whole", f"cut-{trial}"))
        assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()
        losses = [[e.train_loss for e in Run.read(folder).history] for folder in (whole, cut)]
        assert losses[0] == losses[1]


def test_a_run_killed_at_its_very_end_is_over_and_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.py").write_text(RECIPE_FILE.replace("EPOCHS", "1"))
    monkeypatch.chdir(tmp_path)

    def asked(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["run", "tiny.py", *arguments], prog_name="budgetnet")

    monkeypatch.setattr(saver, "EVERY", 0.0)
    monkeypatch.setattr(saver, "COST", 0.0)
    with monkeypatch.context() as patch:
        # As a kill leaves it: the record says finished, and the checkpoints are still there.
        patch.setattr(checkpoints, "remove", lambda folder: None)
        assert asked("-q").exit_code == 0
    assert any((tmp_path / "runs/tiny-1/checkpoints").iterdir())
    found = asked("--resume")
    assert found.exit_code == 0
    assert "is finished: nothing is left to do" in found.output
    # By its name it is over too, and when all is asked that it was begun with; asked to be another it is
    # refused, and without --resume, or once its checkpoints are removed, a new one begins.
    assert asked("--resume", "runs/tiny-1").exit_code == 0
    refused = asked("--resume", "runs/tiny-1", "--set", "recipe.phases.1.epochs=2")
    assert refused.exit_code == 2
    assert "start a new schedule from its weights" in refused.output
    checkpoints.remove(tmp_path / "runs/tiny-1")
    assert asked("--resume", "-q").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny-1", "tiny-2"]


class Asking(nn.Module):
    """A network that sends its process a signal when it evaluates its n-th batch."""

    def __init__(self, at: int, number: int = signal.SIGINT, times: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
        self.body(torch.zeros(1, 3, 12, 12))
        self.left, self.number, self.times = at, number, times

    def forward(self, images: Tensor) -> Tensor:
        if not self.training and images.device.type != "meta":
            self.left -= 1
            for _ in range(self.times if self.left == -1 else 0):
                signal.raise_signal(self.number)
        found: Tensor = self.body(images)
        return found


def asking(at: int, **options: Any) -> Asking:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Asking(at, **options)


@pytest.fixture
def interruptible() -> Any:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


RECIPE = Recipe([Phase(2, 12, 0.05)], batch_size=20)
SILENT = ("modules.model",)
"""What may change of a network that asks, for one that does not any more to go on with its run."""


def finished(out: Path, data: Data, recipe: Recipe, **options: Any) -> tuple[Run, dict[str, Tensor]]:
    model = asking(-1)
    run = Trainer("cpu", out=out, show=False).fit(model, data, recipe, **options)
    return run, model.state_dict()


# 3 batches in each of two evaluations after an epoch; after the last of them there is nothing left to stop.
@pytest.mark.parametrize("at", range(5))
def test_a_signal_is_heeded_between_the_batches_of_an_evaluation(
    at: int, tmp_path: Path, interruptible: None
) -> None:
    data = coloured(40, val=60)
    model = asking(at)
    with pytest.raises(KeyboardInterrupt):
        Trainer("cpu", out=tmp_path, show=False).fit(model, data, RECIPE)
    folder = tmp_path / "run-1"
    held, _ = checkpoints.newest(folder)
    assert held is not None
    assert held.step == (2 if at < 2 else 3 if at == 2 else 4)
    run, weights = finished(tmp_path, data, RECIPE, resume=folder, allow=SILENT)
    expected, whole = finished(tmp_path / "whole", data, RECIPE)
    assert all(torch.equal(weights[name], whole[name]) for name in whole)
    assert [e.val_loss for e in run.history] == [e.val_loss for e in expected.history]


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_after_the_last_step_leaves_a_run_that_is_done_and_ends_what_comes_after(
    number: int, expected: type[BaseException], tmp_path: Path, interruptible: None
) -> None:
    data, model = coloured(40, val=60), asking(5, number=number)
    with pytest.raises(expected) as caught:
        Trainer("cpu", out=tmp_path, show=False).fit(model, data, RECIPE)
    assert not isinstance(caught.value, SystemExit) or caught.value.code == 143
    run, (whole, weights) = Run.read(tmp_path / "run-1"), finished(tmp_path / "whole", data, RECIPE)
    assert run.status == "finished"
    assert run.result["val_loss"] == whole.result["val_loss"]
    assert all(torch.equal(model.state_dict()[name], weights[name]) for name in weights)
    assert all(
        torch.equal(tensor, weights[name])
        for name, tensor in load_file(tmp_path / "run-1" / saver.MODEL).items()
    )


def test_a_signal_is_heeded_while_images_are_labelled(tmp_path: Path, interruptible: None) -> None:
    data = coloured(40, val=20)
    pool = coloured(600, val=3, seed=5).train
    unknown = Split(pool.images, torch.full_like(pool.labels, -1), pool.indices)
    data = Data(data.train, data.val, None, data.classes, "coloured", unknown)
    recipe = Recipe([Phase(1, 12, 0.05), Phase(1, 12, 0.05, pseudo=PseudoLabels(0.34))], batch_size=20)
    # A batch of the first phase's evaluation, and the first of three of the unlabelled images.
    model = asking(1)
    with pytest.raises(KeyboardInterrupt):
        Trainer("cpu", out=tmp_path, show=False).fit(model, data, recipe)
    assert model.left == -1
    run, weights = finished(tmp_path, data, recipe, resume=tmp_path / "run-1", allow=SILENT)
    expected, whole = finished(tmp_path / "whole", data, recipe)
    assert all(torch.equal(weights[name], whole[name]) for name in whole)
    assert [e.pseudo_images for e in run.history] == [e.pseudo_images for e in expected.history]


def with_test_images() -> Data:
    data = coloured(40, val=60)
    return Data(data.train, data.val, coloured(60, val=3, seed=7).train, data.classes, "coloured")


def test_a_signal_is_heeded_in_the_final_evaluation_too(tmp_path: Path, interruptible: None) -> None:
    # Validation is measured after the epochs, 3 batches each; then the test images, 3 batches.
    model = asking(6)
    with pytest.raises(KeyboardInterrupt):
        Trainer("cpu", out=tmp_path, show=False).fit(model, with_test_images(), RECIPE)
    assert Run.read(tmp_path / "run-1").status == "stopped"
    run, weights = finished(tmp_path, with_test_images(), RECIPE, resume=tmp_path / "run-1", allow=SILENT)
    expected, whole = finished(tmp_path / "whole", with_test_images(), RECIPE)
    assert all(torch.equal(weights[name], whole[name]) for name in whole)
    assert run.result["test_loss"] == expected.result["test_loss"]


def test_a_time_limit_waits_for_a_step_of_its_session(tmp_path: Path) -> None:
    # Where an evaluation takes longer than a session may, its sessions would get nowhere.
    run, _ = finished(tmp_path, with_test_images(), RECIPE, max_time=1e-9)
    sessions = 1
    while run.status == "paused":
        run, _ = finished(tmp_path, with_test_images(), RECIPE, resume=run.folder, max_time=1e-9)
        sessions += 1
    # Four steps; the last step's session ends before its evaluation, which has the fifth.
    assert (run.status, sessions) == ("finished", 5)


def test_a_break_ends_as_it_would_have_though_a_signal_comes(tmp_path: Path, interruptible: None) -> None:
    run, model = Run.new(tmp_path, "mine"), asking(-1)
    trainer = Trainer("cpu", out=None, show=False)
    for _ in trainer.epochs(model, with_test_images(), Recipe([Phase(9, 12, 0.05)]), run):
        model.left = 0
        break
    assert model.left < 0
    assert run.status == "ended early"
    assert "test_accuracy" in run.result


def test_a_second_ctrl_c_acts_in_the_middle_of_an_evaluation(tmp_path: Path, interruptible: None) -> None:
    model = asking(0, times=2)
    with pytest.raises(KeyboardInterrupt):
        Trainer("cpu", out=tmp_path, show=False).fit(model, coloured(40, val=60), RECIPE)
    # At once: nothing was saved for it.
    assert checkpoints.newest(tmp_path / "run-1")[0] is None


@pytest.mark.parametrize("times", [1, 2])
def test_in_a_notebook_ctrl_c_gives_the_run_and_a_second_one_is_an_interrupt(
    times: int, tmp_path: Path, interruptible: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    model = asking(3, times=times)
    trainer, data = Trainer("cpu", out=tmp_path, show=False), coloured(40, val=60)
    if times == 2:
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(model, data, RECIPE)
        return
    run = trainer.fit(model, data, RECIPE)
    assert (run.status, len(run.history)) == ("stopped", 1)
    assert run.model is model
    kept = budgetnet.load(tmp_path / "run-1", lambda: asking(-1)).state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.training
