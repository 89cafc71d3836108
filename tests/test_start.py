"""Before the first step: places that cannot hold a run, and too small disks, are refused in a sentence."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from conftest import coloured
from test_lock import HOLD
from torch import nn

from budgetnet import (
    EMA,
    SGD,
    Adam,
    AdamW,
    Budget,
    Data,
    Phase,
    PseudoLabels,
    Recipe,
    Run,
    Trainer,
    models,
    text,
)
from budgetnet.cli import main
from budgetnet.files import check_place
from budgetnet.files import checkpoint as checkpoints
from budgetnet.trainer import saver
from budgetnet.trainer.space import check_out, checkpoint_bytes, needed

RECIPE_FILE = """
from pathlib import Path

from torch import nn

from budgetnet import text
from budgetnet import Budget, Phase, Recipe, digits, models


def model() -> nn.Module:
    return Budget(params="10k").build(models.convnet, classes=10, widths=(4,), channels=1)


def data():
    Path("loaded").touch()
    return digits()


recipe = Recipe([Phase(1, 8, 0.1)], batch_size=600)
"""


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def absurd(folder: Path) -> Mapping[str, str]:
    """Places that cannot hold a run."""
    (folder / "file").write_text("kept")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "circle").symlink_to(folder / "circle")
    return {
        "a file": str(folder / "file"),
        "below a file": str(folder / "file" / "runs"),
        "a link to nothing": str(folder / "dangling"),
        "below a link to nothing": str(folder / "dangling" / "runs"),
        "a link to itself": str(folder / "circle"),
        "a device": "/dev/null",
        "no disk": "/proc/runs",
        "too long a name": str(folder / ("n" * 300)),
        "too long a path": str(folder / "/".join(["folder"] * 700)),
        "a NUL": f"{folder}/a\0b",
        "a line's end": f"{folder}/a\nb",
    }


def test_absurd_places_are_refused_before_the_first_step(
    data: Data, tmp_path: Path, model: nn.Module
) -> None:
    places = absurd(tmp_path)
    before = names(tmp_path)
    for kind, out in places.items():
        with pytest.raises(ValueError, match="a run's folder") as told:
            Run.new(out, "run")
        assert "choose another" in str(told.value), kind
        assert "\n" not in str(told.value), kind
        assert len(str(told.value)) < 400, kind
        with pytest.raises(ValueError, match="a run's folder"):
            check_place(out, "run")
        assert names(tmp_path) == before, kind
    with pytest.raises(ValueError, match="a run's folder"):
        Trainer("cpu", out=places["a file"], show=False).fit(model, data, Recipe([Phase(1, 12, 0.1)]))


def test_the_command_refuses_them_before_it_loads_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(RECIPE_FILE)
    places = absurd(tmp_path)
    before = names(tmp_path)
    sweep = ["sweep", "mine.py", "--over", "recipe.batch_size=300,600"]
    for kind, out in places.items():
        if "\0" in out:
            # No argument of a process can hold one.
            continue
        for command in (
            ["run", "mine.py"],
            ["run", "mine.py", "--dry-run"],
            ["run", "mine.py", "--seeds", "2"],
            sweep,
        ):
            if kind != "a file" and command[1:] != ["mine.py"]:
                continue
            found = CliRunner().invoke(main, [*command, "--out", out])
            assert found.exit_code == 2, (kind, command, found.output)
            assert "a run's folder" in found.output, (kind, command)
            assert "Traceback" not in found.output
            assert not Path("loaded").exists(), (kind, command)
            assert names(tmp_path) - {"__pycache__"} == before, (kind, command)


def test_a_good_place_is_left_as_it_was(tmp_path: Path) -> None:
    assert check_place(tmp_path / "a" / "b", "run") == tmp_path
    assert list(tmp_path.iterdir()) == []


def small(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every disk says that it has so many bytes free."""
    found = SimpleNamespace(f_bavail=free, f_bfree=free, f_frsize=1, f_blocks=10**9)
    monkeypatch.setattr(os, "statvfs", lambda path: found)


def test_a_disk_that_is_too_small_is_refused_and_a_small_one_noted(
    data: Data,
    tmp_path: Path,
    model: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = Recipe([Phase(1, 12, 0.1)])
    need = needed(model, recipe, images=len(data.train))
    small(need - 1000, monkeypatch)
    with pytest.raises(
        ValueError, match=f"need about {text.size(need)}, and there are only .* free on the disk of"
    ):
        Trainer("cpu", out=tmp_path / "runs", show=False).fit(model, data, recipe)
    assert list((tmp_path / "runs").iterdir()) == []
    small(2 * need, monkeypatch)
    run = Trainer("cpu", out=tmp_path / "runs").fit(model, data, recipe)
    assert run.status == "finished"
    assert "note: checkpoints and weights need about" in capsys.readouterr().out
    assert any("need about" in note for note in run.record["notes"])
    small(4 * need, monkeypatch)
    run = Trainer("cpu", out=tmp_path / "runs").fit(model, data, recipe)
    assert not any("need about" in note for note in run.record["notes"])


def test_the_command_says_so_before_it_loads_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(RECIPE_FILE)
    small(1000, monkeypatch)
    sweep = ["sweep", "mine.py", "--over", "recipe.batch_size=300,600"]
    for command in (
        ["run", "mine.py"],
        ["run", "mine.py", "--dry-run"],
        ["run", "mine.py", "--seeds", "2"],
        sweep,
    ):
        found = CliRunner().invoke(main, command)
        assert found.exit_code == 2, found.output
        assert "and there are only 1 kB free on the disk" in found.output
        assert not Path("loaded").exists()
        assert not Path("runs").exists()


def test_many_runs_need_more_than_one(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe([Phase(1, 12, 0.1)])
    one, ten = needed(model, recipe), needed(model, recipe, runs=10)
    assert one < ten < 10 * one
    small(ten - 1, monkeypatch)
    assert check_out(tmp_path, ("run",), model, recipe) != [] or 3 * one < ten
    with pytest.raises(ValueError, match="need about"):
        check_out(tmp_path, ("run",), model, recipe, runs=10)


def test_a_resumed_run_counts_what_it_has(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe([Phase(2, 12, 0.1)], batch_size=120)

    def network() -> nn.Module:
        return Budget(params="300k").build(models.convnet, classes=3, widths=(32, 64, 128))

    first = network()
    run = Trainer("cpu", out=tmp_path, show=False).fit(first, data, recipe, max_time=1e-9)
    need = needed(first, recipe, images=len(data.train))
    small(need - checkpoint_bytes(first, recipe) // 2, monkeypatch)
    with pytest.raises(ValueError, match="need about"):
        Trainer("cpu", out=tmp_path, show=False).fit(network(), data, recipe)
    assert (
        Trainer("cpu", out=tmp_path, show=False).fit(first, data, recipe, resume=run.folder).status
        == "finished"
    )


RECIPES = {
    "SGD": Recipe([Phase(2, 12, 0.05)], SGD(), batch_size=60),
    "Adam, averaged, restarted from the best": Recipe(
        [Phase(1, 12, 0.01), Phase(2, 12, 0.01, start="best")],
        Adam(),
        batch_size=60,
        average=EMA(0.9),
        keep="best",
    ),
    "a part of it": Recipe([Phase(2, 12, 0.01, trains=["head"])], AdamW(), batch_size=60),
    "no momentum": Recipe([Phase(2, 12, 0.05)], SGD(momentum=0, nesterov=False), batch_size=60),
    "pseudo-labels": Recipe(
        [Phase(1, 12, 0.01), Phase(1, 12, 0.01, pseudo=PseudoLabels(0.0))], Adam(), batch_size=60
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_the_need_is_what_real_checkpoints_take(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for constant in ("EVERY", "COST"):
        monkeypatch.setattr(saver, constant, 0.0)
    sizes, real = [], checkpoints.save

    def save(*arguments: object) -> Path:
        path = real(*arguments)  # type: ignore[arg-type]
        sizes.append(sum(file.stat().st_size for file in path.iterdir()))
        return path

    monkeypatch.setattr(checkpoints, "save", save)
    model = Budget(params="500k").build(models.convnet, classes=3, widths=(32, 64, 160))
    data = coloured(120, val=30)
    unlabelled = coloured(240, seed=2).train if name == "pseudo-labels" else None
    data = Data(data.train, data.val, None, data.classes, data.name, unlabelled)
    found = checkpoint_bytes(model, RECIPES[name], unlabelled=240 if unlabelled is not None else 0)
    Trainer("cpu", out=tmp_path, show=False).fit(model, data, RECIPES[name])
    assert 0.97 * max(sizes) < found < 1.06 * max(sizes), (found, max(sizes))


def test_an_optimizer_of_ones_own_is_guessed(model: nn.Module) -> None:
    def mine(parameters: object) -> object:
        raise RuntimeError("not on such parameters")

    recipe = Recipe([Phase(1, 12, 0.1)], mine)  # type: ignore[arg-type]
    assert checkpoint_bytes(model, recipe) >= checkpoint_bytes(model, Recipe([Phase(1, 12, 0.1)], SGD()))


FULL = """
set -e
mount -t tmpfs -o size={size} tmpfs {place}
cd {place}
{python} -m budgetnet.cli run {recipe} -q --out {place}/runs --set recipe.batch_size=100 && code=0 || code=$?
ls -A {place} | head -5
echo code $code
"""


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine lets us mount nothing")
    (tmp_path / "mine.py").write_text(RECIPE_FILE.replace('Path("loaded").touch()', ""))
    (tmp_path / "disk").mkdir()
    for size, code, words in (
        ("12k", 2, "need about"),
        ("48k", 2, "need about"),
        ("8m", 0, "validation"),
    ):
        script = FULL.format(
            size=size,
            place=tmp_path / "disk",
            python=f"{sys.executable} -c 'from budgetnet.cli import main; main()' #",
            recipe=tmp_path / "mine.py",
        ).replace(f"# -m budgetnet.cli run {tmp_path / 'mine.py'}", f"run {tmp_path / 'mine.py'}")
        found = subprocess.run(
            ["unshare", "-rm", "bash", "-c", script], capture_output=True, text=True, check=False
        )
        told = found.stdout + found.stderr
        assert f"code {code}" in told, told
        assert words in told, (size, told)
        assert "Traceback" not in told
        if code:
            assert "runs" not in found.stdout.replace("a run's", "")


@pytest.mark.slow
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        # Root may write anywhere: the check runs as another user.
        user = {"user": 65534, "group": 65534, "extra_groups": []}
    else:
        user = {}
    place = tmp_path / "closed"
    place.mkdir(mode=0o555)
    for above in [tmp_path, *tmp_path.parents]:
        if above.stat().st_uid == os.geteuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o055)
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('disk', sys.argv[1])\n"
        "disk = importlib.util.module_from_spec(spec); spec.loader.exec_module(disk)\n"
        "try:\n    disk.check_place(sys.argv[2], 'run')\n"
        "except ValueError as error:\n    print(error)\n"
    )
    source = tmp_path / "disk.py"
    shutil.copy(Path(__file__).parent.parent / "budgetnet" / "files" / "disk.py", source)
    source.chmod(0o644)
    found = subprocess.run(
        ["/usr/bin/env", "python3", "-c", code, str(source), str(place / "runs")],
        capture_output=True,
        text=True,
        check=False,
        **user,  # type: ignore[call-overload]
    )
    if "python3" in found.stderr:
        pytest.skip("there is no interpreter for other users")
    assert "cannot be made or written in" in found.stdout, found.stderr
    assert "Permission denied" in found.stdout


def test_a_run_whose_process_was_killed_is_interrupted(tmp_path: Path) -> None:
    run = Run.new(tmp_path / "runs", "mine")
    run.note(status="running", started="2026-01-01T10:00:00+0000")
    assert run.folder is not None
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert Run.read(run.folder).status == "running"
    process.kill()
    process.wait()
    assert Run.read(run.folder).status == "interrupted"
    listed = CliRunner().invoke(main, ["list", "--out", str(tmp_path / "runs")]).output
    assert "interrupted" in listed
    assert "running" not in listed
    compared = CliRunner().invoke(main, ["compare", str(run.folder), "--json"]).output
    assert '"status": "interrupted"' in compared
    evaluated = CliRunner().invoke(main, ["evaluate", str(run.folder), "quickstart"]).output
    assert "its status is interrupted" in evaluated
