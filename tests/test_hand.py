"""What is at hand for whoever types: completion, and `python -m budgetnet`."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

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
