"""The trained weights that come along, by name: beside the package in a checkout, inside of it in a wheel."""

from pathlib import Path

SUFFIX = ".safetensors"
_PACKAGE = Path(__file__).parents[1]


def weights() -> dict[str, Path]:
    """The names of the trained models that budgetnet brings along, each with its file."""
    inside = _PACKAGE / "weights"
    folder = inside if inside.is_dir() else _PACKAGE.parent / "weights"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def resolved(path: str | Path) -> Path:
    """The file or folder that is meant: what lies at `path`, else the model that comes along so named."""
    named = Path(path)
    return named if named.exists() else weights().get(str(path), named)
