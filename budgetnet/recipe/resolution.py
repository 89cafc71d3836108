"""Ramp: a resolution that changes during a phase."""

from collections.abc import Callable
from dataclasses import dataclass

from budgetnet.recipe.check import whole


@dataclass(frozen=True)
class Ramp:
    """A resolution that climbs from `first` to `last` pixels over the phase, in multiples of `multiple`.

    Reference: https://arxiv.org/abs/2104.00298 (progressive learning).
    """

    first: int
    last: int
    multiple: int = 8

    def __post_init__(self) -> None:
        for name in ("first", "last", "multiple"):
            whole("Ramp", name, getattr(self, name))

    def __call__(self, t: float) -> int:
        """The resolution at progress t in [0, 1): both ends are reached, each value for an equal time."""
        low, high = round(self.first / self.multiple), round(self.last / self.multiple)
        levels = abs(high - low) + 1
        at = min(int(t * levels), levels - 1)
        if at == levels - 1:
            return self.last
        return self.first if at == 0 else (low + (at if high > low else -at)) * self.multiple


Resolution = int | Ramp | Callable[[float], int]
