"""What one process does refuses to be done by several; who trains together is in test_team.py."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import coloured
from processes import environment
from torch import nn

from budgetnet import Phase, Recipe, Trainer
from budgetnet.cli import main
from budgetnet.process import check_launch

RECIPE = Recipe([Phase(1, 12, 0.05)], batch_size=20)


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 3))


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "quickstart"],
        ["run", "quickstart", "--seeds", "2"],
        ["run", "quickstart", "--dry-run"],
        ["sweep", "quickstart", "--over", "recipe.batch_size=1,2"],
        ["predict", "m", "x"],
        ["compress", "m"],
    ],
)
def test_every_command_that_works_refuses_to_be_one_of_several(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 2
    assert found.output.startswith("Error: WORLD_SIZE should be 1, not 2: one process does this")
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(main, [arguments[0], "--help"]).exit_code == 0


@pytest.mark.parametrize("option", [["--seeds", "2"], ["--folds", "3"], ["--dry-run"]])
def test_torchrun_is_for_one_run_that_is_trained(
    option: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in environment(0, 2, 1).items():
        monkeypatch.setenv(name, text)
    found = CliRunner().invoke(main, ["run", "quickstart", *option])
    assert found.exit_code == 2
    assert found.output.startswith("Error: WORLD_SIZE should be 1, not 2: one process does this")


def test_so_do_fit_and_epochs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    trainer = Trainer("cpu", out=tmp_path, show=False)
    with pytest.raises(ValueError, match="WORLD_SIZE should be 1, not 4"):
        trainer.fit(network(), coloured(20, val=3), RECIPE)
    with pytest.raises(ValueError, match="WORLD_SIZE should be 1, not 4"):
        trainer.epochs(network(), coloured(20, val=3), RECIPE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("world", ["1", "", "two", "0"])
def test_one_process_that_a_launcher_started_trains(
    world: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setenv("RANK", "0")
    run = Trainer("cpu", out=tmp_path, show=False).fit(network(), coloured(20, val=3), RECIPE)
    assert run.status == "finished"
    assert not any("one of" in note for note in run.record["notes"])


@pytest.mark.parametrize(
    ("name", "launcher"),
    [("SLURM_STEP_NUM_TASKS", "srun"), ("OMPI_COMM_WORLD_SIZE", "mpirun"), ("PMI_SIZE", "mpiexec")],
)
def test_the_tasks_of_other_launchers_are_refused_too(
    name: str, launcher: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # An allocation of four in which a script runs once says SLURM_NTASKS=4, and is no step of four tasks.
    monkeypatch.setenv("SLURM_NTASKS", "4")
    check_launch()
    monkeypatch.setenv(name, "4")
    with pytest.raises(ValueError, match=f"{name} should be 1, not 4: .* without {launcher} .* unset {name}"):
        Trainer("cpu", out=tmp_path, show=False).fit(network(), coloured(20, val=3), RECIPE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["list"], ["count", "quickstart"], ["completion", "bash"]])
def test_commands_that_only_look_may_run(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert CliRunner().invoke(main, arguments).exit_code == 0


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no torch.distributed")
def test_a_group_of_processes_that_was_joined_by_hand_is_refused_too() -> None:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        Trainer("cpu", out=None, show=False).fit(network(), coloured(20, val=3), RECIPE)
    finally:
        torch.distributed.destroy_process_group()
    with pytest.raises(ValueError, match="should be 1, not 3"):
        check_launch(3)
