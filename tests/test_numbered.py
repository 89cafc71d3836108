"""Runs by their names: which are refused, which are found again, and what `--resume` goes on with."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import coloured
from lives import RECIPE
from torch import nn

from budgetnet import Phase, Recipe, Run, Trainer
from budgetnet.cli import main
from budgetnet.files import folders_of


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(RECIPE.replace("EPOCHS", "1"))
    return tmp_path


def asked(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["run", "tiny.py", *arguments], prog_name="budgetnet")


def paused(*arguments: str) -> None:
    assert asked("--max-time", "0.001s", *arguments).exit_code == 75


def statuses(name: str = "tiny") -> list[str]:
    return [Run.read(folder).status for folder in folders_of(Path("runs"), name)]


def edit(folder: str, **entries: Any) -> None:
    path = Path(folder) / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize("name", ["", ".", "..", "../../x", "/tmp/x", "a/b", "a\nb", "\x1b[31m", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, here: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(432, 3))
    recipe, data = Recipe([Phase(1, 12, 0.05)], batch_size=20), coloured(20, val=3)
    with pytest.raises(ValueError, match="the name of a folder"):
        Trainer("cpu", out=here / "runs", show=False).fit(network, data, recipe, name=name)
    with pytest.raises(ValueError, match="the name of a folder"):
        Run.new("runs", name)
    if "\0" not in name and name:
        assert asked("--name", name).exit_code == 2
    assert sorted(path.name for path in here.iterdir()) == ["tiny.py"]


@pytest.mark.parametrize("name", ["exp[1]", "a*?", "-n", "two words", "v1.2", "größe 中", "x-1", "..."])
def test_a_run_is_found_by_its_name_whatever_that_has_in_it(name: str) -> None:
    paused(f"--name={name}")
    # Neighbours that a pattern would take for it, and numbers that are none.
    for neighbour in ("exp1-7", "aXY-7", f"{name}-²", f"{name}-٣", f"{name}-7x", f"{name}-"):
        Path("runs", neighbour).mkdir()
    assert folders_of(Path("runs"), name) == [Path("runs", f"{name}-1")]
    assert asked(f"--name={name}", "--resume").exit_code == 0
    assert statuses(name) == ["finished"]


def test_the_newest_unfinished_run_is_gone_on_with_though_a_later_one_is_finished() -> None:
    paused()
    assert asked().exit_code == 0
    found = asked("--resume")
    assert "going on in runs/tiny-1" in found.output
    assert statuses() == ["finished", "finished"]
    assert "no unfinished run of tiny lies in runs: a new one begins" in asked("--resume").output


def test_of_several_unfinished_runs_the_newest_goes_on_and_the_others_are_named() -> None:
    paused()
    paused()
    # The number alone does not say which is newer: the first free one is taken.
    edit("runs/tiny-1", started="2099-01-01T00:00:00+0000")
    found = asked("--resume")
    assert "to be named where they are meant: runs/tiny-2 (paused)" in found.output
    assert statuses() == ["finished", "paused"]
    assert asked("--resume", "tiny-2").exit_code == 0
    assert statuses() == ["finished", "finished"]


def test_one_command_line_begins_after_a_run_and_goes_on_until_it_is_finished() -> None:
    assert asked("--name", "first").exit_code == 0
    line = ("--after", "first-1", "--resume", "--max-time")
    paused("--name", "first")
    codes = [asked(*line, "0.001s").exit_code for _ in range(2)]
    assert codes == [75, 75]
    found = asked(*line, "1h")
    assert found.exit_code == 0, found.output
    run = Run.read("runs/tiny-1")
    assert [epoch.session for epoch in run.history] == [1, 1, 2, 2]
    assert len(run.record["sessions"]) == 3
    assert statuses() == ["finished"]
    assert statuses("first") == ["finished", "paused"]
    refused = asked("--after", "first-1", "--resume", "first-2")
    assert refused.exit_code == 2
    assert "should have begun from the weights of runs/first-1" in refused.output


def test_metrics_that_are_damaged_are_written_anew_from_the_checkpoint() -> None:
    assert asked("--name", "whole").exit_code == 0
    paused()
    metrics = Path("runs/tiny-1/metrics.jsonl")
    told = []
    for damaged in (b"\0" * 40, b'{"number": 1', b'{"number": 7}\n'):
        metrics.write_bytes(damaged)
        assert "metrics.jsonl is damaged" in Run.read("runs/tiny-1").record["notes"][-1]
        told.append(asked("--resume", "--max-time", "0.001s").output)
    assert all("metrics.jsonl was damaged, and is written anew from the checkpoint" in text for text in told)
    metrics.unlink(missing_ok=True)
    assert asked("--resume").exit_code == 0
    losses = [[e.train_loss for e in Run.read(f"runs/{name}-1").history] for name in ("whole", "tiny")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("damaged", [b"\0" * 40, b'{"status": 3}', None])
def test_a_record_that_is_damaged_is_written_anew_where_there_is_a_checkpoint(damaged: bytes | None) -> None:
    assert asked("--name", "whole").exit_code == 0
    paused()
    record = Path("runs/tiny-1/run.json")
    record.unlink() if damaged is None else record.write_bytes(damaged)
    found = asked("--resume", "--max-time", "0.001s")
    assert "--resume runs/tiny-1 goes on from its checkpoint" in found.output
    found = asked("--resume", "runs/tiny-1")
    assert found.exit_code == 0, found.output
    assert "the run's record was damaged, and is written anew" in found.output
    whole, cut = Run.read("runs/whole-1"), Run.read("runs/tiny-1")
    assert [e.train_loss for e in cut.history] == [e.train_loss for e in whole.history]
    assert cut.record["recipe"] == whole.record["recipe"]
    assert cut.record["recipe_file"] == whole.record["recipe_file"]
    assert statuses() == ["finished", "paused"]


def test_no_checkpoint_is_removed_on_the_word_of_an_edited_record() -> None:
    paused()
    edit("runs/tiny-1", status="finished")
    assert statuses() == ["paused"]
    assert "paused" in CliRunner().invoke(main, ["list"]).output
    assert asked("--resume", "--max-time", "0.001s").exit_code == 75
    record = json.loads(Path("runs/tiny-1/run.json").read_text())
    record["sessions"][-1]["status"] = "finished"
    edit("runs/tiny-1", status="finished", sessions=record["sessions"])
    found = asked("--resume")
    assert found.exit_code == 0
    assert "its checkpoints are still there" in found.output
    assert any(Path("runs/tiny-1/checkpoints").iterdir())
