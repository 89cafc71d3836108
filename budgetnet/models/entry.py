"""The entry of every network: pixels standardised, and options that its builder does not have refused."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from budgetnet.layers import Pixels, Standardise, standardise
from budgetnet.values import nearest


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
