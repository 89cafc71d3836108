"""EarlyStop: when a phase ends before its time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from budgetnet.recipe.check import one_of, whole
from budgetnet.schedule import MONITORS as MONITORS
from budgetnet.schedule import Measured


@dataclass(frozen=True)
class EarlyStop:
    """End the phase once `monitor` has not improved on its best by `least` for `patience` epochs in a row.

    NaN never counts as an improvement.
    """

    patience: int = 10
    monitor: str = "val_loss"
    least: float = 0.0

    def __post_init__(self) -> None:
        whole("EarlyStop", "patience", self.patience)
        one_of("EarlyStop", "monitor", self.monitor, MONITORS)
        if not self.least >= 0:
            raise ValueError(f"EarlyStop's least should be 0 or more, not {self.least!r}")

    def fires(self, history: Sequence[Measured]) -> bool:
        """Whether the phase should end after these finished epochs of it."""
        sign = 1.0 if self.monitor.endswith("accuracy") else -1.0
        best, since = -math.inf, 0
        for epoch in history:
            found = sign * epoch.measure(self.monitor)
            if found > best + (self.least if best > -math.inf else 0.0):
                best, since = found, 0
            else:
                since += 1
        return since >= self.patience
