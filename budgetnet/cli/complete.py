"""What a shell completes: recipes and models that come along, runs, and files; nothing here imports torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budgetnet.process import shipped

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def recipes(context: click.Context, option: click.Parameter, typed: str) -> "list[CompletionItem]":
    """The recipes that come along, and files."""
    return _items(_recipes(), typed)


def models(context: click.Context, option: click.Parameter, typed: str) -> "list[CompletionItem]":
    """The runs in runs/, the trained models that come along, and files."""
    return _items(_models(), typed)


def either(context: click.Context, option: click.Parameter, typed: str) -> "list[CompletionItem]":
    """What `recipes` and `models` give."""
    return _items([*_recipes(), *_models()], typed)


def _recipes() -> list[str]:
    return [path.stem for path in shipped("recipes").glob("*.py") if not path.stem.startswith("_")]


def _models() -> list[str]:
    runs = [path.parent.as_posix() for path in Path("runs").glob("*/run.json")]
    return [*runs, *(path.stem for path in shipped("weights").glob("*.safetensors"))]


def _items(names: Iterable[str], typed: str) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    # The files first: in bash what comes before them is forgotten.
    matching = sorted({name for name in names if name.startswith(typed)})
    return [CompletionItem(typed, type="file"), *map(CompletionItem, matching)]
