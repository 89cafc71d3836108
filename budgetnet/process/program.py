"""Program: this program's version, and the folders that come along with it."""

from pathlib import Path

VERSION = "0.2.0"


def shipped(name: str) -> Path:
    """The folder `name` that comes along: beside the package in a checkout, inside of it in a wheel."""
    package = Path(__file__).parents[1]
    return package / name if (package / name).is_dir() else package.parent / name
