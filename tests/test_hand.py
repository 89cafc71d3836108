"""What is at hand for whoever types: completion, doctor, sorted lists, hints, and `python -m budgetnet`."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import budgetnet
from budgetnet import models
from budgetnet.cli import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)


def offered(arguments: list[str], typed: str) -> list[str]:
    complete = ShellComplete(main, {}, "budgetnet", "_BUDGETNET_COMPLETE")
    return [item.value for item in complete.get_completions(arguments, typed) if item.type == "plain"]


def test_a_shell_completes_commands_recipes_and_runs(here: Path) -> None:
    (here / "runs" / "mine-1").mkdir(parents=True)
    (here / "runs" / "mine-1" / "run.json").write_text("{}")
    assert offered([], "ru") == ["run"]
    assert offered(["run"], "quick") == ["quickstart"]
    assert offered(["evaluate"], "runs/") == ["runs/mine-1"]
    assert offered(["evaluate", "runs/mine-1"], "quick") == ["quickstart"]
    assert "quickstart" in offered(["count"], "")
    assert "runs/mine-1" in offered(["count"], "")
    assert offered(["nosuch"], "a") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str) -> None:
    assert f"_BUDGETNET_COMPLETE={shell}_complete" in told("completion", shell)


def test_completion_needs_no_torch() -> None:
    code = (
        "import os, sys\n"
        "os.environ['_BUDGETNET_COMPLETE'] = 'zsh_complete'\n"
        "os.environ |= {'COMP_WORDS': 'budgetnet run ', 'COMP_CWORD': '2'}\n"
        "from budgetnet.cli import main\n"
        "try:\n    main(prog_name='budgetnet')\n"
        "finally:\n    print('torch' in sys.modules)\n"
    )
    done = python("-c", code)
    assert "quickstart" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"
    assert not done.stderr


def test_python_runs_the_package() -> None:
    done = python("-m", "budgetnet", "--version")
    assert done.stdout.startswith("budgetnet ")


def test_doctor_names_what_is_there_and_what_is_missing(here: Path) -> None:
    (here / "sets" / "stl10_binary").mkdir(parents=True)
    facts = json.loads(told("doctor", "--data", "sets", "--json"))
    assert facts["torch"].startswith(torch.__version__)
    assert facts["stl10"].startswith("in ")
    assert facts["cifar10"].startswith("not in sets")
    assert facts["memory"].endswith(" free")
    lines = told("doctor", "--data", "sets").splitlines()
    assert lines[-1] == "type: budgetnet run quickstart"


def ended(name: str, started: str, val: float | None) -> None:
    folder = Path("runs", name)
    folder.mkdir(parents=True)
    result = {} if val is None else {"val_accuracy": val}
    record = {"status": "finished", "started": started, "result": result}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.jsonl").write_text("")


def test_runs_are_listed_by_what_is_asked_the_unknown_last() -> None:
    ended("b-1", "2026-01-02T10:00:00", 0.25)
    ended("a-1", "2026-01-03T10:00:00", None)
    ended("c-1", "2026-01-01T10:00:00", 0.75)
    Path("runs/d-1").mkdir()
    Path("runs/d-1/run.json").write_text("{")

    def names(sort: str) -> list[str]:
        runs = json.loads(told("list", "--runs", "--json", "--sort", sort))["runs"]
        return [Path(run["run"]).name for run in runs]

    assert names("val") == ["c-1", "b-1", "a-1", "d-1"]
    assert names("started") == ["c-1", "b-1", "a-1", "d-1"]
    assert names("run") == ["a-1", "b-1", "c-1", "d-1"]
    assert told("list", "--runs", "--sort", "val").splitlines()[1].split()[0] == "runs/c-1"
    assert "quickstart" in json.loads(told("list", "--json"))["recipes"]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: budgetnet.Phase(epoch=3), "Phase has no argument 'epoch'; did you mean 'epochs'?"),
        (lambda: budgetnet.Budget(parms="2M"), "Budget has no argument 'parms'; did you mean 'params'?"),
        (lambda: models.convnet(10, width=(8,)), "convnet has no argument 'width'; did you mean 'widths'?"),
        (
            lambda: models.resnet(10, stem_pol=False),
            "resnet has no argument 'stem_pol'; did you mean 'stem_pool'?",
        ),
        (
            lambda: models.resnet18(10, zeroinit=True),
            "resnet18 has no argument 'zeroinit'; did you mean 'zero_init'?",
        ),
        (lambda: budgetnet.Crop(scales=(0.5, 1)), "Crop has no argument 'scales'; did you mean 'scale'?"),
        (
            lambda: budgetnet.SGD(weigth_decay=0),
            "SGD has no argument 'weigth_decay'; did you mean 'weight_decay'?",
        ),
        (lambda: budgetnet.Trainer(devise="cpu"), "Trainer has no argument 'devise'; did you mean 'device'?"),
        (
            lambda: budgetnet.layers.basik,
            "budgetnet.layers has no public name 'basik'; did you mean 'basic'?",
        ),
        (lambda: budgetnet.Cosin, "budgetnet has no public name 'Cosin'; did you mean 'Cosine'?"),
    ],
)
def test_a_mistyped_name_in_python_is_told_its_neighbour(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises((TypeError, AttributeError)) as refused:
        call()
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    "ask", [budgetnet.ledger, budgetnet.Budget("2M").check, lambda m: budgetnet.macs(m, 8)]
)
def test_a_builder_in_place_of_its_model_is_refused_in_words(ask: Callable[[object], object]) -> None:
    with pytest.raises(
        ValueError, match=r"an nn.Module, not resnet; build it first, model = resnet\(\.\.\.\)"
    ):
        ask(models.resnet)
