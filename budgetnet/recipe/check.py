"""A check that a recipe and its groups share: of what is called for an optimizer or a loss."""

from dataclasses import is_dataclass


def made(owner: str, name: str, found: object) -> None:
    """Refuse an optimizer or loss that was not called yet, or cannot be."""
    if isinstance(found, type) and is_dataclass(found):
        raise ValueError(f"{owner}'s {name} is the class {found.__name__}; call it: {found.__name__}(...)")
    if not callable(found):
        raise ValueError(f"{owner}'s {name} should be callable, such as SGD() or a loss, not {found!r}")
