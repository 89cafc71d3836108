"""Card: what a model file says of its model, and how a model gets one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import budgetnet.models as models
from budgetnet.budget import Built, external, made, saved_tensors
from budgetnet.layers import Quantised
from budgetnet.modelfile.arguments import NotPortable, encoded, public_name


@dataclass(frozen=True)
class Card:
    """What a saved model says of itself.

    `builder` is the name of a function of `budgetnet.models` with its `arguments`, or None for a model that
    was built in another way; `origin` then names that. `classes` are the labels' names in order, `resize`
    and `crop` the pixels that it is to be tested at, `stored` the (height, width) that its images had before
    that, None in cards of before, and `shape` how photos come to these: their largest part at the centre
    ("crop") or the whole ("squash"). `mirror` and `shift` the looks at each image whose
    logits are averaged, as in `Test`; `budget` the limits that it keeps. `external` says what
    external weights it began from, "" for none; `arguments` leave them out, so that a load never needs them.
    `quantised` are the options of `layers.Quantised` round the builder, None without it.
    """

    classes: tuple[str, ...] = ()
    resize: int | None = None
    crop: int | None = None
    channels: int = 3
    builder: str | None = None
    arguments: Any = None
    origin: str = ""
    budget: dict[str, Any] | None = None
    external: str = ""
    mirror: bool = False
    shift: int = 0
    stored: tuple[int, int] | None = None
    shape: str = "crop"
    quantised: dict[str, Any] | None = None


def card(model: nn.Module) -> Card | None:
    """The card of a trained or loaded model, None where it has none."""
    noted = getattr(model, "card", None)
    return noted if isinstance(noted, Card) else None


def described(model: nn.Module, **entries: Any) -> Card:
    """A card for `model`, with `entries` (classes, resize, crop, channels).

    It says how Budget.build built it, or a function of budgetnet.models made it that was not changed since.
    """
    how = made(model)
    entries["external"] = external(model)
    if how is None:
        return Card(origin=f"a {type(model).__name__}", **entries)
    make = how.make
    if isinstance(make, Quantised):
        entries["quantised"], make = make.options(), make.make
    name = getattr(make, "__qualname__", repr(make))
    origin = f"{getattr(make, '__module__', '')}.{name}".lstrip(".")
    budget = how.budget.describe() if isinstance(how, Built) else None
    try:
        builder = public_name(make, models)
        keywords = dict(how.kwargs)
        if entries["external"] and "weights" in keywords:
            keywords["weights"] = None  # the file holds what became of them
        arguments = encoded([list(how.args), keywords])
        if budget is None and not _is_made(model, make, how.args, keywords):
            raise NotPortable
    except NotPortable:
        return Card(origin=origin, budget=budget, **entries)
    return Card(builder=builder, arguments=arguments, origin=origin, budget=budget, **entries)


def _is_made(
    model: nn.Module, make: Callable[..., nn.Module], args: tuple[Any, ...], keywords: dict[str, Any]
) -> bool:
    """Whether the model still is what its builder makes: nobody has put other layers into it."""
    with torch.device("meta"):
        fresh = make(*args, **keywords)
    ours, theirs = (
        {name: tensor.shape for name, tensor in saved_tensors(each).items()} for each in (model, fresh)
    )
    return ours == theirs and repr(model) == repr(fresh)
