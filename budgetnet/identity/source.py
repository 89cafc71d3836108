"""Source: the text of a recipe file and of what it imports beside itself, and the commit that it lies in."""

import ast
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from budgetnet.identity.names import module_file

_MOST, _LONGEST = 100, 2**20
_PATIENCE = 2.0
# No program that the checkout names is started, no index written, no password asked for.
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}


def sources(path: Path, shipped: Path | None = None) -> dict[str, str]:
    """The text of a recipe file and of each module in its folder that it imports, directly or not, by name.

    What is not there is looked for in `shipped`, another folder. The names are those of files, "mine.py"
    and "parts.losses.py". What cannot be read, or has more than a MiB, is left out.
    """
    folder = path.resolve().parent
    folders = [folder, *([shipped.resolve()] if shipped is not None else [])]
    texts: dict[str, str] = {}
    waiting = [path.resolve()]
    while waiting and len(texts) < _MOST:
        file = waiting.pop()
        home = next(each for each in folders if file.is_relative_to(each))
        name = ".".join(file.relative_to(home).parts)
        try:
            text = "" if name in texts or file.stat().st_size > _LONGEST else file.read_text("utf-8")
            tree = ast.parse(text)
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue
        if text:
            texts[name] = text
            waiting += [other for other in _imported(tree, folders, file) if other != file]
    return texts


def digests(texts: Mapping[str, str]) -> dict[str, str]:
    """The SHA-256 (hex) of each text, as `sha256sum` gives it of the file."""
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def commit(path: Path) -> dict[str, Any] | None:
    """The commit of the git checkout that a file lies in, and whether the file and all that is tracked is as
    in it; None where there is no checkout, no git, or none that answers in time."""
    folder = path.resolve().parent
    if not any((above / ".git").exists() for above in (folder, *folder.parents)) or not shutil.which("git"):
        return None
    status = _git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no") or ""
    head = re.search(r"^# branch\.oid ([0-9a-f]{40,64})$", status, re.MULTILINE)
    if head is None:
        return None
    changed = any(not line.startswith("#") for line in status.splitlines())
    tracked = _git(folder, "ls-files", "--error-unmatch", "--", path.name) is not None
    return {"id": head[1], "clean": tracked and not changed}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            [*_GIT, "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            timeout=_PATIENCE,
            stdin=subprocess.DEVNULL,
            # A hook of another checkout names that one.
            env={**{k: v for k, v in os.environ.items() if not k.startswith("GIT_")}, **_QUIET},
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _imported(tree: ast.Module, folders: list[Path], file: Path) -> Iterator[Path]:
    """The files that a module imports, within functions too, each from the first folder that has it."""
    for node in ast.walk(tree):
        names: list[str] = []
        bases = folders
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if 0 < node.level <= len(file.parents):
                bases = [file.parents[node.level - 1]]
            module = [node.module] if node.module else []
            names = module + [".".join([*module, alias.name]) for alias in node.names]
        for name in names:
            parts = name.split(".")
            for depth in range(1, len(parts) + 1):
                files = (module_file(base, ".".join(parts[:depth])) for base in bases)
                there = next((each.resolve() for each in files if each is not None), None)
                if there is not None and any(there.is_relative_to(each) for each in folders):
                    yield there
