"""A release: a wheel and its source are built, hold what belongs in them, and work where installed."""

import ast
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
from built import ROOT, environment, run

import budgetnet

pytestmark = pytest.mark.slow


def files(*folders: str) -> set[str]:
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return {path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts}


def test_a_wheel_holds_the_package_recipes_and_weights_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    along = {f"budgetnet/{name}" for name in files("recipes", "weights")}
    assert names == files("budgetnet") | along


def test_its_source_holds_what_it_is_made_tested_and_documented_from_and_nothing_else(dist: Path) -> None:
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    pages = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"}
    kept = files("budgetnet", "recipes", "weights", "tests", "docs", "benchmarks")
    assert names == {"PKG-INFO", "pyproject.toml", "Makefile", ".gitignore", *pages} | kept


def test_both_are_of_this_version(dist: Path) -> None:
    version = budgetnet.__version__
    assert {path.name for path in dist.iterdir()} == {
        f"budgetnet-{version}-py3-none-any.whl",
        f"budgetnet-{version}.tar.gz",
    }


REMOVED = """
aifc asynchat asyncore audioop cgi cgitb chunk crypt distutils imghdr imp lib2to3 mailcap msilib nis nntplib
ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib"""
"""What Python 3.12 and 3.13 no longer have."""


def test_it_is_python_3_11_and_needs_nothing_that_3_12_or_3_13_took_away() -> None:
    for name in sorted(name for name in files("budgetnet", "recipes") if name.endswith(".py")):
        text = (ROOT / name).read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an escape that is none
            tree = ast.parse(text, name, feature_version=(3, 11))
        for node in ast.walk(tree):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            gone = {module.partition(".")[0] for module in imported} & set(REMOVED.split())
            assert not gone, f"{name} imports {gone}"


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
