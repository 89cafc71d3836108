"""Run and Epoch: what is written is read back, folders are never shared, files are whole or absent."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import coloured
from torch import nn

import budgetnet
from budgetnet import EMA, Data, Phase, Recipe, Trainer
from budgetnet.cli import main
from budgetnet.compare import compare
from budgetnet.files import checkpoint, write_whole
from budgetnet.run import Epoch, Run


def epoch(number: int, accuracy: float = math.nan, loss: float = math.nan) -> Epoch:
    return Epoch(
        number=number,
        phase=1,
        name="learn",
        epoch=number,
        epochs=3,
        steps=7,
        images=224,
        lr=0.05,
        resolution=12,
        train_loss=1.25,
        train_accuracy=0.5,
        train_seconds=2.0,
        val_loss=loss,
        val_accuracy=accuracy,
    )


def test_a_run_is_read_back_as_it_was(tmp_path: Path) -> None:
    run = Run.new(tmp_path / "runs", "mine")
    run.note(status="finished", result={"val_accuracy": 0.5})
    for made in (epoch(1, 0.25, 1.0), epoch(2)):
        run.add(made)
    found = Run.read(run.folder)  # type: ignore[arg-type]
    assert [e.line() for e in found.history] == [e.line() for e in run.history]
    assert found.history[0] == run.history[0]
    assert math.isnan(found.history[1].val_loss)
    assert found.status == "finished"
    assert found.result["val_accuracy"] == 0.5


def test_a_new_run_never_shares_a_folder(tmp_path: Path) -> None:
    names = [Run.new(tmp_path, "a").folder.name for _ in range(3)]  # type: ignore[union-attr]
    assert names == ["a-1", "a-2", "a-3"]


def test_best_is_the_highest_accuracy_and_then_the_lowest_loss() -> None:
    run = Run([epoch(1, 0.5, 1.0), epoch(2, 0.7, 0.9), epoch(3, 0.7, 0.8), epoch(4)])
    assert run.best is run.history[2]
    assert Run([epoch(1)]).best is None


def test_pace_is_images_over_training_time() -> None:
    assert epoch(1).images_per_second == 112


def test_a_run_says_what_it_is_in_a_line(tmp_path: Path) -> None:
    run = Run.new(tmp_path, "a")
    run.add(epoch(1, 0.5, 1.0))
    run.note(status="finished", result={"val_accuracy": 0.5})
    assert repr(run) == f"Run({tmp_path / 'a-1'}: finished, 1 epoch, 50.00 % on validation)"
    assert repr(Run()) == "Run(in memory: running, 0 epochs)"


def test_what_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds run\.json"):
        Run.read(tmp_path)
    (tmp_path / "run.json").write_text("{torn")
    with pytest.raises(ValueError, match="should be JSON"):
        Run.read(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ValueError, match="a JSON object"):
        Run.read(tmp_path)


def test_a_place_that_is_no_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be made"):
        Run.new(tmp_path / "file", "a")


def test_files_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_whole(path, b"first")

    def fail(number: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            write_whole(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["f"]


def looped(tmp_path: Path, *, epochs: int = 5) -> tuple[Run, Iterator[Epoch]]:
    run = Run.new(tmp_path, "looped")
    trainer = Trainer("cpu", out=None, show=False)
    return run, trainer.epochs(network(), coloured(20, val=9), Recipe([Phase(epochs, 12, 0.05)]), run)


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 3))


def raising(epochs: Iterator[Epoch]) -> None:
    for _ in epochs:
        raise RuntimeError("of the loop")


def breaking(epochs: Iterator[Epoch]) -> None:
    for _ in epochs:
        break


@pytest.mark.parametrize("leave", [breaking, raising])
def test_a_loop_that_is_left_ends_the_run_early(leave: Callable[..., None], tmp_path: Path) -> None:
    run, epochs = looped(tmp_path)
    with suppress(RuntimeError):
        leave(epochs)
    del epochs
    assert run.status == "ended early"
    assert "ended early, 1 of 5 epochs" in repr(run) == repr(Run.read(tmp_path / "looped-1"))
    assert "val_accuracy" in run.result
    shown = CliRunner().invoke(main, ["list", "--runs", "--out", str(tmp_path)]).output
    assert re.search(r"ended early .* 1/5 ", shown)
    with pytest.raises(ValueError, match=r"is ended early; start a new schedule .* after="):
        Trainer("cpu", show=False).fit(
            network(), coloured(20, val=9), Recipe([Phase(5, 12, 0.1)]), resume=run.folder
        )


def test_a_loop_that_is_left_after_the_last_epoch_is_a_whole_run(tmp_path: Path) -> None:
    run, epochs = looped(tmp_path, epochs=1)
    breaking(epochs)
    del epochs
    assert run.status == "finished"


HELD = """
from test_run import looped, raising
from pathlib import Path

run, epochs = looped(Path())
raising(epochs)
"""


@pytest.mark.slow
def test_a_loop_that_an_error_leaves_with_its_epochs_in_a_variable_ends_with_the_process(
    tmp_path: Path,
) -> None:
    paths = [str(Path(__file__).parent), str(Path(budgetnet.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", HELD],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stderr.rstrip().endswith("RuntimeError: of the loop")
    assert Run.read(tmp_path / "looped-1").status == "ended early"


def test_a_run_is_ended_with_a_word_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, epochs = looped(tmp_path)
    for epoch in epochs:
        if epoch.number == 2:
            run.end("pruned")
    assert (run.status, run.progress, run.over, run.early) == ("pruned", "2 of 5 epochs", True, True)
    assert Run.read(tmp_path / "looped-1").status == "pruned"
    assert not checkpoint.any_in(tmp_path / "looped-1")
    run.end("too slow")
    assert Run.read(tmp_path / "looped-1").status == "too slow"
    for wrong in ("", "finished", "two\nlines", 3, " x"):
        with pytest.raises(ValueError, match='a word of your own, such as "pruned", not'):
            run.end(wrong)  # type: ignore[arg-type]


def test_a_run_that_can_go_on_is_not_ended_from_elsewhere(tmp_path: Path) -> None:
    run, epochs = looped(tmp_path)
    next(epochs)
    with pytest.raises(ValueError, match="ended by the process that trains it"):
        Run.read(tmp_path / "looped-1").end("pruned")
    epochs.close()  # type: ignore[attr-defined]
    assert run.status == "ended early"


def test_runs_that_were_ended_early_are_not_pooled_with_whole_ones(tmp_path: Path) -> None:
    for early in (False, False, True, True):
        _, epochs = looped(tmp_path, epochs=2)
        (breaking if early else list)(epochs)
        del epochs
    comparison = compare(sorted(tmp_path.iterdir()))
    assert [len(group.runs) for group in comparison.groups] == [2, 2]
    assert [group.figure("val_accuracy").n for group in comparison.groups] == [2, 2]
    assert "looped-3: ended early after 1 of 2 epochs" in str(comparison)
    assert re.search(r"ending +- +ended early", str(comparison))


def test_what_starts_from_the_best_weights_starts_its_average_from_them(data: Data, model: nn.Module) -> None:
    def ruins(t: float) -> float:
        return 0.02 if t < 0.7 else 3.0

    phases = [Phase(10, 8, ruins, batch_size=16), Phase(1, 8, 1e-6, start="best", batch_size=16)]
    recipe = Recipe(phases, average=EMA(0.9), keep="averaged")
    run = Trainer("cpu", out=None, show=False).fit(model, data, recipe)
    *before, last = [epoch.val_accuracy for epoch in run.history]
    assert before[-1] < max(before) - 0.2
    assert last == pytest.approx(max(before), abs=0.05)
