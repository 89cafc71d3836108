"""Run and Epoch: what is written is read back, folders are never shared, files are whole or absent."""

import math
import os
from pathlib import Path

import pytest

from budgetnet.files import write_whole
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
