"""The entry of every network: how it was made is noted, pixels standardised, and unknown options refused."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, cast

from torch import nn

from budgetnet.budget import Made
from budgetnet.layers import Pixels, Standardise, standardise
from budgetnet.values import nearest

Arguments = ParamSpec("Arguments")


def noted(make: Callable[Arguments, nn.Sequential]) -> Callable[Arguments, nn.Sequential]:
    """`make`, whose networks keep how they were made as their attribute `built`, for the cards of files."""

    # A default and no closure: what is known of a builder in the records of runs stays its name alone.
    @functools.wraps(make)
    def build(*args: Any, _make: Any = make, **kwargs: Any) -> nn.Sequential:
        model: nn.Sequential = _make(*args, **kwargs)
        itself = _make.__globals__[_make.__name__]  # with this round it, as everybody else knows it
        model.built = Made(itself, args, kwargs)  # type: ignore[assignment]  # a plain attribute
        return model

    return cast(Callable[Arguments, nn.Sequential], build)


def entry(
    make: Callable[..., object], channels: int, options: Mapping[str, Any], known: type = Pixels
) -> Standardise:
    """`standardise` by the options of the builder `make`, a dict of the kind `known`.

    Raises TypeError for an option that the builder does not have, by the builder's name.
    """
    for name in options:
        if name not in Pixels.__annotations__:
            parameters = inspect.signature(make).parameters.values()
            names = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
            hint = nearest(name, [*names, *known.__annotations__])
            raise TypeError(f"{getattr(make, '__name__', make)} has no argument {name!r}{hint}")
    return standardise(**options, channels=channels)
