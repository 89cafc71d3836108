"""A release: a wheel and its source are built, hold what belongs in them, and work where installed."""

import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from built import ROOT, environment, run

pytestmark = pytest.mark.slow


def files(*folders: str) -> set[str]:
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return {path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts}


def test_a_wheel_holds_the_package_recipes_and_weights_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    along = {f"budgetnet/{name}" for name in files("recipes", "weights")}
    assert names == files("budgetnet") | along


def test_its_source_holds_what_it_is_made_and_tested_from(dist: Path) -> None:
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"PKG-INFO", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"}
    assert needed <= names
    assert files("budgetnet", "recipes", "weights") <= names
    assert {name.partition("/")[0] for name in names} <= {
        *needed, ".gitignore", "budgetnet", "recipes", "weights", "tests", "docs"
    }  # fmt: skip


def test_both_are_as_pypi_wants_them(dist: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir(), cwd=dist)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_each_works_where_it_is_installed(dist: Path, tmp_path: Path, kind: str) -> None:
    (archive,) = dist.glob(kind)
    python = environment(archive, tmp_path / "home")

    def budgetnet(*words: str) -> str:
        return run(python, "-m", "budgetnet", *words, cwd=tmp_path, OMP_NUM_THREADS="1")

    assert budgetnet("--version").split()[0] == "budgetnet"
    assert "quickstart" in budgetnet("list")
    assert "parameters" in budgetnet("count", "stl10_300kb")
    budgetnet("copy", "quickstart", "mine.py")
    budgetnet("run", "mine.py", "--scale", "0.1")
    assert (tmp_path / "runs" / "mine-1" / "model.safetensors").is_file()
