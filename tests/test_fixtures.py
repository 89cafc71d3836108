"""What released versions wrote is read for ever: a model file, a finished run, and a run that can go on.

`python tests/fixtures/make.py` writes the folder of the version that is being made; those of released ones
stay as they are.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from fixtures.make import HERE, PAUSED_AFTER, RECIPE, data, finished, model, paused, photos

import budgetnet
from budgetnet import Trainer
from budgetnet.cli import main
from budgetnet.files import checkpoint
from budgetnet.guard.seen import read_seen
from budgetnet.modelfile import read_card
from budgetnet.run import Run

VERSIONS = sorted(path.name for path in HERE.iterdir() if path.is_dir() and path.name[0].isdigit())
every_version = pytest.mark.parametrize("version", VERSIONS)
CLOSE = 1e-4
"""How far torch may differ from another torch, on another processor, in logits and losses."""


def test_this_version_has_its_fixtures() -> None:
    assert budgetnet.__version__ in VERSIONS
    assert "0.1.0" in VERSIONS


@every_version
def test_a_model_file_gives_the_logits_that_it_gave(version: str) -> None:
    path = HERE / version / "model.safetensors"
    kept = torch.tensor(json.loads((HERE / version / "logits.json").read_text()))
    with torch.no_grad():
        assert torch.allclose(budgetnet.load(path)(photos()), kept, atol=CLOSE)
    card = read_card(path)
    assert card.classes == ("red", "green", "blue")
    assert (card.crop, card.builder, card.budget) == (6, "convnet", {"params": 1200})
    found = Trainer("cpu", out=None, show=False).predict(budgetnet.load(path), (photos() * 255).byte())
    assert found.named() == [card.classes[k] for k in found.labels.tolist()]


@every_version
def test_a_finished_run_is_read_with_its_figures(version: str) -> None:
    folder = HERE / version / "finished-1"
    run = Run.read(folder)
    assert (run.status, len(run.history), run.record["seed"]) == ("finished", 3, 0)
    assert [(epoch.name, epoch.resolution, epoch.steps) for epoch in run.history] == [
        ("learn", 8, 4),
        ("learn", 8, 4),
        ("fix", 6, 4),
    ]
    seen = read_seen(folder)
    assert seen is not None
    assert len(seen) == 48
    trainer = Trainer("cpu", out=None, show=False)
    held = data()
    measured = trainer.evaluate(budgetnet.load(folder), held.val, classes=held.classes)
    assert measured.loss == pytest.approx(run.result["val_loss"], abs=CLOSE)
    assert measured.accuracy == pytest.approx(run.result["val_accuracy"], abs=1 / 24 + CLOSE)


@every_version
def test_a_paused_run_goes_on_to_the_end_that_it_would_have_had(version: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(HERE / version / "paused-1", tmp_path / "paused-1"))
    before = Run.read(folder)
    assert (before.status, len(before.history)) == ("paused", 1)
    found, bad = checkpoint.newest(folder)
    assert found is not None
    assert (found.step, bad) == (PAUSED_AFTER, [])
    run = Trainer("cpu", out=tmp_path, show=False).fit(model(), data(), RECIPE, resume=folder)
    whole = Run.read(HERE / version / "finished-1")
    assert run.status == "finished"
    assert run.history[0] == before.history[0] == Run.read(folder).history[0]
    for name in ("val_loss", "train_loss", "lr"):
        wanted = [epoch.measure(name) for epoch in whole.history]
        assert [epoch.measure(name) for epoch in run.history] == pytest.approx(wanted, abs=10 * CLOSE)


@every_version
def test_the_commands_read_what_it_wrote(version: str, tmp_path: Path) -> None:
    shutil.copytree(HERE / version, tmp_path / "runs")
    told = CliRunner().invoke(main, ["list", "--out", str(tmp_path / "runs")])
    assert told.exit_code == 0
    assert "finished-1" in told.output
    assert "paused" in told.output
    assert "unreadable" not in told.output
    runs = [str(tmp_path / "runs" / name) for name in ("finished-1", "paused-1")]
    told = CliRunner().invoke(main, ["compare", *runs, "--json"])
    assert told.exit_code == 0, told.output
    for target in (runs[0], str(tmp_path / "runs" / "model.safetensors")):
        told = CliRunner().invoke(main, ["count", target])
        assert told.exit_code == 0, told.output


@pytest.mark.slow
def test_what_is_written_today_is_what_lies_there(tmp_path: Path) -> None:
    """So that a fixture that is forgotten to be made anew is noticed."""
    there = HERE / budgetnet.__version__
    run, cut = finished(tmp_path, "finished"), paused(tmp_path)
    for folder, name in ((run.folder, "finished-1"), (cut.folder, "paused-1")):
        kept, made = Run.read(there / name).record, Run.read(folder).record
        assert made.keys() == kept.keys(), "make the fixtures anew: python tests/fixtures/make.py"
        assert made["recipe"] == kept["recipe"]
        assert made["data"] == kept["data"]
        lines = [(place / "metrics.jsonl").read_text().splitlines()[0] for place in (folder, there / name)]
        assert json.loads(lines[0]).keys() == json.loads(lines[1]).keys()
