"""Figure: one measured number over several runs: how many, mean, standard deviation, and range."""

import math
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from budgetnet.metrics import student
from budgetnet.run import Epoch, Run, images_per_second


@dataclass(frozen=True)
class Figure:
    """The `values` that some runs measured of one thing; those that are no number are left out."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(v for v in self.values if math.isfinite(v)))

    @property
    def n(self) -> int:
        """How many values there are."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean, NaN of nothing."""
        return fmean(self.values) if self.values else math.nan

    @property
    def sd(self) -> float:
        """The standard deviation with n - 1, NaN below two values."""
        return stdev(self.values) if self.n > 1 else math.nan

    @property
    def lowest(self) -> float:
        """The lowest value, NaN of nothing."""
        return min(self.values, default=math.nan)

    @property
    def highest(self) -> float:
        """The highest value, NaN of nothing."""
        return max(self.values, default=math.nan)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean, by Student's t over the runs: (lowest, highest); NaN below two.

        It says where the mean of many such runs lies, on these very images.
        """
        half = student(self.n - 1) * self.sd / math.sqrt(self.n) if self.n > 1 else math.nan
        return self.mean - half, self.mean + half

    def percent(self) -> str:
        """Mean and standard deviation as per cent: "84.10 ± 0.31 %"; "-" of nothing."""
        return self._spread(f"{100 * self.mean:.2f}", f"{100 * self.sd:.2f}", " %")

    def plain(self, digits: int = 4) -> str:
        """Mean and standard deviation as they are: "0.5210 ± 0.0123"; "-" of nothing."""
        return self._spread(f"{self.mean:.{digits}f}", f"{self.sd:.{digits}f}", "")

    def range(self) -> str:
        """Lowest and highest as per cent: "83.80..84.42 %"; "" below two values."""
        return f"{100 * self.lowest:.2f}..{100 * self.highest:.2f} %" if self.n > 1 else ""

    def plain_range(self, digits: int = 4) -> str:
        """Lowest and highest as they are: "0.4980..0.5310"; "" below two values."""
        return f"{self.lowest:.{digits}f}..{self.highest:.{digits}f}" if self.n > 1 else ""

    def json(self) -> dict[str, Any]:
        """The figure as plain JSON values, null where there is none."""
        numbers = {"mean": self.mean, "sd": self.sd, "min": self.lowest, "max": self.highest}
        numbers |= dict(zip(("low95", "high95"), self.interval))
        return {"n": self.n, **{name: None if math.isnan(x) else x for name, x in numbers.items()}}

    def _spread(self, mean: str, sd: str, unit: str) -> str:
        if not self.n:
            return "-"
        return f"{mean} ± {sd}{unit}" if self.n > 1 else f"{mean}{unit}"


def measured(run: Run, name: str) -> float:
    """A run's final figure, such as "val_accuracy", "seconds" or "images_per_second"; NaN where it has none.

    Training figures are those of the epoch whose weights the run kept.
    """
    if name in run.result:
        return number(run.result[name])
    if name == "images_per_second":
        return images_per_second(run)
    kept = _kept(run)
    return number(getattr(kept, name, math.nan)) if kept and name.startswith("train_") else math.nan


def number(value: Any) -> float:
    """`value` where it is a number, NaN for anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _kept(run: Run) -> Epoch | None:
    chosen = [epoch for epoch in run.history if epoch.number == run.result.get("epoch")]
    return chosen[-1] if chosen else run.history[-1] if run.history else None
