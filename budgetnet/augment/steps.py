"""Lists of steps as a user writes them, checked before any image is there."""

from collections.abc import Sequence

from budgetnet.augment.colour import Colour
from budgetnet.augment.views import Act, Step
from budgetnet.augment.warp import Warp


def listed(owner: str, name: str, given: object) -> tuple[Step, ...]:
    """The steps of `owner`'s list `name`. Raises ValueError for what is no list, or holds what is no step."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(f"{owner}'s {name} should be a list of steps such as [Flip()], not {given!r}")
    for step in given:
        if isinstance(step, type):
            raise ValueError(
                f"{owner}'s {name} holds the class {step.__name__}; call it: {step.__name__}(...)"
            )
        if not (callable(step) or isinstance(step, Warp | Colour | Act)):
            raise ValueError(
                f"{owner}'s {name} should hold steps such as Flip() or callables "
                f"(images, labels) -> (images, labels), not {step!r}"
            )
    return tuple(given)
