"""The trained weights that come along: what they are, and that they are found by name."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from test_recipes import stl10_files

import budgetnet
from budgetnet.cli import main
from budgetnet.modelfile import BadModelFile, read_card, weights
from budgetnet.plan import titles

FOLDER = Path(budgetnet.__file__).parents[1] / "weights"


def test_each_has_its_recipe_its_record_and_its_checksum() -> None:
    known = weights()
    assert known
    assert set(known) <= set(titles())
    sums = dict(reversed(line.split("  ")) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    for name, path in known.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sums[path.name]
        record = json.loads((FOLDER / f"{name}.json").read_text())
        assert record["status"] == "finished"
        measured = "val_accuracy" if "val" in record["data"]["images"] else "test_accuracy"
        assert record["result"][measured] > 0.5
        assert f"# {name}" in (FOLDER / f"{name}.md").read_text()


@pytest.mark.parametrize("name", weights())
def test_each_is_loaded_by_its_name_and_keeps_its_budget(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    model, card = budgetnet.load(name), read_card(weights()[name])
    assert card.crop is not None
    logits = model(torch.rand(2, card.channels or 3, card.crop, card.crop))
    assert logits.shape == (2, len(card.classes))
    told = CliRunner().invoke(main, ["count", name])
    assert told.exit_code == 0, told.output


def test_images_that_they_were_not_measured_on_are_told_of(tmp_path: Path) -> None:
    stl10_files(tmp_path, 60)
    asked = ["evaluate", "stl10_300kb", "stl10_300kb", "--data", str(tmp_path), "--set", "data.held_out=20"]
    told = CliRunner().invoke(main, asked)
    assert told.exit_code == 0, told.output
    note = (
        "note: these val images are not those of the run: some of them may have been trained on; its own are"
    )
    assert f"{note} those of --set data.held_out=held_out_1000.txt" in told.output.replace("\n", " ")


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = next(iter(weights()))
    Path(name).write_bytes(b"something else")
    with pytest.raises(BadModelFile):
        budgetnet.load(name)


def test_a_name_that_is_not_there_is_answered_with_those_that_are() -> None:
    told = CliRunner().invoke(main, ["predict", "stl11_best", "photo.png"])
    assert told.exit_code == 2
    assert f"the models that come along are {', '.join(weights())}" in told.output
