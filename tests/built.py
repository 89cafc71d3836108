"""A release as others have it: the wheel and the source built, and environments with nothing else of ours."""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUTSIDE = ["build", "hatchling", "twine"]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a program prints; it has to succeed, and does not find the repository by PYTHONPATH."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd=cwd,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=560,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder: Path) -> None:
    """Put a source archive into `folder`, and a wheel that is built from that."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)


def environment(archive: Path, home: Path) -> Path:
    """The Python of a new environment with a wheel or a source archive of ours, and other packages.

    torch alone is several GB, so that the others' folders are lent to it by a .pth file; what leads elsewhere
    from there, such as to the repository, is not read.
    """
    venv.create(home)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    (own,) = home.glob("**/site-packages")
    others = [path for path in sys.path if next(Path(path or ".").glob("*.dist-info"), None) is not None]
    (own / "others.pth").write_text("\n".join(path for path in others if Path(path) != ROOT))
    # A budgetnet in a folder that is only lent is neither taken for this one nor removed.
    install = ["install", "--quiet", "--ignore-installed", "--no-deps", "--no-index", "--no-build-isolation"]
    run(sys.executable, "-m", "pip", "--python", python, *install, archive, cwd=home)
    where = run(python, "-c", "import budgetnet; print(budgetnet.__file__)", cwd=home)
    assert where.startswith(str(own)), where
    return python
