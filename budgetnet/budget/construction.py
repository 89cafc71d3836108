"""How a model was made: its builder and arguments, what they count, and what weights they began from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec

from torch import nn

from budgetnet.budget.fit import watched
from budgetnet.budget.hidden import hidden
from budgetnet.budget.meta import build_on_meta, builder_name
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


def external(model: nn.Module) -> str:
    """
    What external weights `model`, or a part of it, began from; "" for a model that is trained from scratch.

    A model says so itself, with a string in its attribute `external`; `models.efficientnet(weights=...)` and
    `Budget.build` of a torchvision or timm builder set it.
    """
    stated = (getattr(module, "external", None) for module in model.modules())
    return " and ".join(dict.fromkeys(words for words in stated if isinstance(words, str) and words))


def asked_for(make: Callable[..., nn.Module], kwargs: Mapping[str, Any]) -> str:
    """The external weights that a call of a builder of torchvision or timm names, "" for none."""
    keywords = dict(kwargs)
    while isinstance(make, partial):
        keywords = {**make.keywords, **keywords}
        make = make.func
    package = str(getattr(make, "__module__", "")).split(".")[0]
    if package not in ("torchvision", "timm"):
        return ""
    for option in ("weights", "pretrained"):
        if keywords.get(option):
            return f"{package} {builder_name(make)}({option}={keywords[option]!r})"
    return ""


def check_constants(model: nn.Module, resolution: int, *, channels: int) -> None:
    """
    Raises ValueError for a tensor in a plain attribute that the forward reads in evaluation mode: it is not
    moved to a device, and a saved model has none of it.

    Views of registered tensors pass, and so does what the model's builder does not make: a forward has.
    """
    # What is computed from weights, as torch.nn.utils.weight_norm does before each forward, is no constant.
    own = {
        each.path for each in hidden(walk(model).modules) if all(tensor.is_leaf for tensor in each.tensors)
    }
    if not own:
        return
    watch, _ = watched(model, resolution, channels, counted=False)
    found = [each for each in watch.constants if each.path in own]
    how = built(model)
    if how is not None and found:
        fresh = build_on_meta(how.make, how.args, how.kwargs, limits={})
        made = {each.path for each in hidden(walk(fresh).modules)}
        found = [each for each in found if each.path in made]
    for each in found:
        name = each.path.rpartition(".")[2].partition("[")[0]
        raise ValueError(
            f"{type(model).__name__} should register the tensors that its forward reads, and {each.path}, of "
            f"{sum(tensor.numel() for tensor in each.tensors):,} numbers, is a plain attribute, which is "
            f"neither moved to a device nor saved: write self.register_buffer({name!r}, ...)"
        )


def count(make: Callable[Arguments, nn.Module], /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
    """
    The unique parameters of what `make(*args, **kwargs)` builds, with nothing allocated and no random number
    drawn.

        count(torch.nn.Conv2d, 3, 64, kernel_size=3)  # 1792
    """
    model = build_on_meta(make, args, kwargs, limits={})
    walk(model)  # refuses lazy modules, whose count is not known yet
    return sum(parameter.numel() for parameter in model.parameters())
