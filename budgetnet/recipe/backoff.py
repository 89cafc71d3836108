"""BackOff: what a training does about a number that is not finite, other than to stop."""

from dataclasses import dataclass

from budgetnet.recipe.check import whole


@dataclass(frozen=True)
class BackOff:
    """Undo a step that leaves a NaN or an infinity, and go on with the next at a lower learning rate.

    Weights, statistics, averages and the optimizer are as before the step; its images are passed over. The
    rate is multiplied by `factor`, in (0, 1), from then on. After `limit` times the training stops, as it
    does at once without a BackOff. It costs a copy of the training's state in memory, and on CUDA a wait for
    the device at every step.
    """

    factor: float = 0.5
    limit: int = 3

    def __post_init__(self) -> None:
        number = isinstance(self.factor, int | float) and not isinstance(self.factor, bool)
        if not number or not 0 < self.factor < 1:
            raise ValueError(f"BackOff's factor should be in (0, 1), not {self.factor!r}")
        whole("BackOff", "limit", self.limit)
