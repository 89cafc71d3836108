"""Scratch: what external weights a model began from, in words, and the refusal of such a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, runtime_checkable

from torch import nn

from budgetnet.budget.meta import builder_name


class NotFromScratch(ValueError):
    """A model began from external weights, and its budget says `scratch=True`."""


@runtime_checkable
class External(Protocol):
    """A model, a part of one, or a step that says which external weights it began from, "" for none."""

    @property
    def external(self) -> str:
        """Their origin, in words."""


def stated(owner: object) -> str:
    """The external weights that a module or step itself says it began from; "" for none."""
    words: object = owner.external if isinstance(owner, External) else ""
    return words if isinstance(words, str) else ""


def external(model: nn.Module) -> str:
    """What external weights `model`, or a part of it, began from; "" for a model that is trained from
    scratch.

    A model says so itself, with a string in its attribute `external`; `models.efficientnet(weights=...)` and
    `Budget.build` of a torchvision or timm builder set it.
    """
    return " and ".join(dict.fromkeys(filter(None, map(stated, model.modules()))))


def asked_for(make: Callable[..., nn.Module], kwargs: Mapping[str, Any]) -> str:
    """The external weights that a call of a builder of torchvision or timm names, "" for none."""
    keywords, make = dict(kwargs), inspect.unwrap(make)
    while isinstance(make, partial):
        keywords = {**make.keywords, **keywords}
        make = inspect.unwrap(make.func)
    package = str(getattr(make, "__module__", "")).split(".")[0]
    if package not in ("torchvision", "timm"):
        return ""
    for option in ("weights", "pretrained"):
        if keywords.get(option):
            return f"{package} {builder_name(make)}({option}={keywords[option]!r})"
    return ""
