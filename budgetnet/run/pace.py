"""Pace: how fast a training went, and into what its time went."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from budgetnet.run.epoch import Epoch
from budgetnet.run.run import Run


@dataclass(frozen=True)
class Pace:
    """`images` trained on in `training` seconds, and the `seconds` of a run by what they went into.

    "data" is the fetching of stored images and the making of views, "step" forward, loss, backward and the
    optimizer, "evaluation" that after the epochs, "rest" all else: checkpoints, bookkeeping, the beginning
    and the final figures. NaN where a run of an older version did not tell.
    """

    images: int
    training: float
    seconds: dict[str, float]

    @property
    def images_per_second(self) -> float:
        """Training images a second, over the epochs' training alone."""
        return self.images / self.training if self.training else math.nan

    @property
    def shares(self) -> dict[str, float]:
        """The parts of the whole time, which add up to 1."""
        whole = sum(self.seconds.values())
        return {name: spent / whole if whole else math.nan for name, spent in self.seconds.items()}

    def __str__(self) -> str:
        pace = f"{self.images_per_second:,.0f} images/s" if self.images else ""
        known = [f"{name} {100 * part:.0f} %" for name, part in self.shares.items() if math.isfinite(part)]
        return f"{pace} ({', '.join(known)})" if known else pace

    def json(self) -> dict[str, Any]:
        """The figures as plain JSON values, null where there is none."""
        entries: dict[str, Any] = {"images_per_second": _plain(self.images_per_second)}
        entries |= {f"{name}_seconds": _plain(spent) for name, spent in self.seconds.items()}
        return entries | {f"{name}_share": _plain(part) for name, part in self.shares.items()}


def pace(epochs: Sequence[Epoch], seconds: float | None = None) -> Pace:
    """The pace of these epochs; `seconds` is what they took in all, with what was done between them."""
    training, evaluation = sum(e.train_seconds for e in epochs), sum(e.val_seconds for e in epochs)
    data, step = sum(e.data_seconds for e in epochs), sum(e.step_seconds for e in epochs)
    # Times that are measured on the device may say a little more than the clock does.
    rest = max(0.0, max(training + evaluation, seconds or 0.0) - data - step - evaluation)
    if math.isnan(data + step):
        rest = math.nan
    spent = {"data": data, "step": step, "evaluation": evaluation, "rest": rest}
    return Pace(sum(epoch.images for epoch in epochs), training, spent)


def images_per_second(run: Run) -> float:
    """Training images a second of a run's own epochs; NaN for one without any."""
    session = max((epoch.session for epoch in run.history), default=1)
    return pace([epoch for epoch in run.history if epoch.session == session]).images_per_second


def _plain(number: float) -> float | None:
    return round(number, 4) if math.isfinite(number) else None
