"""The trained weights that come along, by name."""

from pathlib import Path

from budgetnet.process import shipped


def weights() -> dict[str, Path]:
    """The names of the trained models that budgetnet brings along, each with its file."""
    return {path.stem: path for path in sorted(shipped("weights").glob("*.safetensors"))}


def resolved(path: str | Path) -> Path:
    """The file or folder that is meant: what lies at `path`, else the model that comes along so named."""
    named = Path(path)
    return named if named.exists() else weights().get(str(path), named)
