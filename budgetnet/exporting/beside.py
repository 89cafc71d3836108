"""Beside: the pages and the JSON that lie beside an exported file, and which file they are of."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from budgetnet.exporting.page import CARD, is_card

JSON, PAGE = "preprocess.json", "preprocess.md"


def beside(path: Path, name: str) -> Path:
    """Where JSON, PAGE or CARD of an export lies: FILE.preprocess.json where preprocess.json is another's.

    Another's is what belongs to another export that is there, and what no export is known to have written.
    """
    own, shared = path.with_name(f"{path.name}.{name}"), path.with_name(name)
    if path.with_name(f"{path.name}.{JSON}").exists() or not _free(path):
        return own
    return own if name == CARD and shared.exists() and not is_card(shared) else shared


def _free(path: Path) -> bool:
    """Whether the short names of JSON and PAGE are this export's, or nobody's."""
    known = path.with_name(JSON)
    if not known.exists():
        return not path.with_name(PAGE).exists()
    owner, _ = _owner(known) or ("", "")
    return owner == path.name or bool(owner and not path.with_name(owner).exists())


def ownership(path: Path, content: bytes) -> dict[str, str]:
    """What the JSON says of the file that it lies beside."""
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}


def stranger(path: Path, content: bytes) -> Path | None:
    """The JSON beside a file that was written for another content under its name, if there is one."""
    known = beside(path, JSON)
    own = ownership(path, content)
    owner = _owner(known)
    return known if owner is not None and owner[0] == own["file"] and owner[1] != own["sha256"] else None


def _owner(path: Path) -> tuple[str, str] | None:
    """The name and the digest of the file that a JSON is of; None of what says nothing about it."""
    try:
        said = json.loads(path.read_bytes())
        return Path(str(said["file"])).name, str(said["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
