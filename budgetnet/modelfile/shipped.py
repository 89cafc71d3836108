"""The trained weights that a name or a reference means: a file here, one that comes along, one of a hub."""

from pathlib import Path

from budgetnet.modelfile.hub import HUB, fetched
from budgetnet.process import shipped


def weights() -> dict[str, Path]:
    """The names of the trained models that budgetnet brings along, each with its file."""
    return {path.stem: path for path in sorted(shipped("weights").glob("*.safetensors"))}


def resolved(path: str | Path) -> Path:
    """The file or folder that is meant: what lies at `path`, else the model that comes along so named.

    "hub:OWNER/NAME@DIGEST" is fetched from a model hub.
    """
    if isinstance(path, str) and path.startswith(HUB):
        return fetched(path)
    named = Path(path)
    return named if named.exists() else weights().get(str(path), named)
