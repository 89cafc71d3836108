"""A release: a wheel and its source are built, hold what belongs in them, and work where installed."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE = ["build", "hatchling", "twine"]

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd=cwd,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a wheel, built from the source archive that lies beside it."""
    for name in OUTSIDE:
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


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
def test_the_wheel_works_where_it_is_installed(dist: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    venv.create(home)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    (wheel,) = dist.glob("*.whl")
    install = ["install", "--quiet", "--no-deps", "--no-index", wheel]
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=tmp_path)
    # torch and the rest are those of whoever tests; files in their folders that lead elsewhere are not read.
    others = [path for path in sys.path if path.endswith("site-packages")]
    (own,) = home.glob("**/site-packages")
    (own / "others.pth").write_text("\n".join(others))

    def budgetnet(*words: str) -> str:
        return run(python, "-m", "budgetnet", *words, cwd=tmp_path, OMP_NUM_THREADS="1")

    where = run(python, "-c", "import budgetnet; print(budgetnet.__file__)", cwd=tmp_path)
    assert where.startswith(str(own))
    assert budgetnet("--version").split()[0] == "budgetnet"
    assert "quickstart" in budgetnet("list")
    assert "parameters" in budgetnet("count", "stl10_300kb")
    budgetnet("copy", "quickstart", "mine.py")
    budgetnet("run", "mine.py", "--scale", "0.1")
    assert (tmp_path / "runs" / "mine-1" / "model.safetensors").is_file()
