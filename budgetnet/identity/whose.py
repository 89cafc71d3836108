"""Whose: whether code is the user's own, which is edited, or a library's, which is known by its name."""

import os
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Literal

import torch

Whose = Literal["known", "installed", "user"]
KNOWN: Whose = "known"
INSTALLED: Whose = "installed"
USER: Whose = "user"
RECIPE_FILE = "budgetnet.recipe_file"
"""The name that a recipe file has as a module while it is read."""

_NAMES = frozenset(("torch", "torchvision", "numpy", "budgetnet", *sys.stdlib_module_names)) - {"__main__"}
_SITES = ("site-packages", "dist-packages")


@cache
def _folders() -> tuple[str, ...]:
    """Where the code lies that is known by its name: Python's, torch's and budgetnet's own."""
    paths = sysconfig.get_paths()
    torch_file = torch.__file__ or ""
    folders = (paths["stdlib"], paths["platstdlib"], os.path.dirname(torch_file), Path(__file__).parents[1])
    return tuple(f"{os.path.realpath(folder)}{os.sep}" for folder in folders)


@cache
def whose_file(name: str) -> Whose:
    """Whose code lies in the file of this name: "known", "installed" by others, or the "user"'s."""
    if name.startswith("<frozen "):
        return KNOWN
    path = os.path.realpath(name)
    parts = Path(path).parts
    site = next((at for at, part in enumerate(parts) if part in _SITES), None)
    if site is not None:
        package = parts[site + 1].partition(".")[0] if len(parts) > site + 1 else ""
        # Recipes are programs of their own, whether they lie beside the package or inside of it.
        recipe = package == "budgetnet" and parts[site + 2 : site + 3] == ("recipes",)
        return USER if recipe else KNOWN if package in _NAMES else INSTALLED
    if path.startswith(os.path.join(_folders()[-1], "recipes") + os.sep):
        return USER
    return KNOWN if path.startswith(_folders()) else USER


def whose_class(kind: type) -> Whose:
    """Whose class this is, by the module that defines it."""
    return whose_module(kind.__module__)


def whose_module(name: str) -> Whose:
    """Whose module this is, by its file; what has none is built in, or else the user's session."""
    if name in (RECIPE_FILE, "__main__"):
        # Whatever Python was started with: a profiler runs a script as its own main module.
        return USER
    module = sys.modules.get(name)
    file = vars(module).get("__file__") if module is not None else None
    if isinstance(file, str):
        return whose_file(file)
    return KNOWN if name.partition(".")[0] in _NAMES else USER
