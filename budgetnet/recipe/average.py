"""EMA: how weights are averaged over the steps of a training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EMA:
    """An exponential moving average of the weights and batch-norm statistics, updated at every step.

    `decay` is per step; early on it is min(decay, (1 + n) / (10 + n)) after n steps, so that the start is
    forgotten. Reference: https://arxiv.org/abs/1608.03983; the warm-up is TensorFlow's.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ValueError(f"EMA's decay should be in (0, 1), not {self.decay!r}")

    def at(self, step: int) -> float:
        """The decay of the update after `step` earlier ones."""
        return min(self.decay, (1 + step) / (10 + step))
