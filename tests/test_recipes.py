"""The shipped recipes, each run end to end; STL-10's at a very small scale, on files that the test makes."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import budgetnet
from budgetnet import Run
from budgetnet.cli import main


def run(*arguments: str) -> str:
    found = CliRunner().invoke(main, ["run", *arguments])
    assert found.exit_code == 0, found.output
    return found.output


def stl10_files(root: Path, count: int) -> None:
    """`count` training images in STL-10's official layout: noise, as bright as its class number."""
    folder = root / "stl10_binary"
    folder.mkdir()
    labels = torch.arange(count) % 10
    noise = torch.randint(0, 60, (count, 3, 96, 96), generator=torch.Generator().manual_seed(0))
    images = (noise + 18 * labels[:, None, None, None]).to(torch.uint8)
    (folder / "train_X.bin").write_bytes(images.numpy().tobytes())
    (folder / "train_y.bin").write_bytes((labels + 1).to(torch.uint8).numpy().tobytes())


@pytest.mark.slow
def test_quickstart_keeps_its_promise(tmp_path: Path) -> None:
    output = run("quickstart", "--out", str(tmp_path))
    found = Run.read(tmp_path / "quickstart-1")
    assert found.result["val_accuracy"] > 0.98
    assert {epoch.resolution for epoch in found.history} == {12, 16}
    assert found.record["model"]["parameters"] < 50_000
    assert str(tmp_path / "quickstart-1") in output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fixres_stl10", "fixres_stl10_seed"])
def test_fixres_runs_through_both_of_its_phases(name: str, tmp_path: Path) -> None:
    stl10_files(tmp_path, 60)
    small = ["--scale", "0.00015", "--set", "data.held_out=20", "--set", "recipe.batch_size=10"]
    small += ["--set", "recipe.phases.1.batch_size=10"]
    run(name, "--data", str(tmp_path), "--out", str(tmp_path / "runs"), *small)
    found = Run.read(tmp_path / "runs" / f"{name}-1")
    assert [epoch.resolution for epoch in found.history] == [70, 120]
    assert found.record["model"]["parameters"] == 1_996_986
    as_published = name.endswith("seed")
    assert found.result["val_images"] == (400 if as_published else 20)
    assert ("val_plain_accuracy" in found.result) == as_published
    model = budgetnet.load(tmp_path / "runs" / f"{name}-1")
    mean = model.standardise.mean.flatten().tolist()
    assert (mean == pytest.approx([0.507, 0.487, 0.441])) == as_published
