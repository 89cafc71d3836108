"""How a model was made: its builder and arguments, and what they count without being built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec

from torch import nn

from budgetnet.budget.meta import build_on_meta
from budgetnet.budget.modules import walk

if TYPE_CHECKING:
    from budgetnet.budget.limits import Budget

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Built:
    """`make(*args, **kwargs)` under a budget: how a model was built, kept as its attribute `built`."""

    make: Callable[..., nn.Module]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    budget: Budget


def built(model: nn.Module) -> Built | None:
    """How `Budget.build` made `model`, None for a model made elsewhere."""
    found = getattr(model, "built", None)
    return found if isinstance(found, Built) else None


def count(make: Callable[Arguments, nn.Module], /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
    """
    The unique parameters of what `make(*args, **kwargs)` builds, with nothing allocated and no random number
    drawn.

        count(torch.nn.Conv2d, 3, 64, kernel_size=3)  # 1792
    """
    model = build_on_meta(make, args, kwargs, limits={})
    walk(model)  # refuses lazy modules, whose count is not known yet
    return sum(parameter.numel() for parameter in model.parameters())
