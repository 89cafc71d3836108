"""Space: from which values a search suggests those of each setting, as values and as it is typed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from budgetnet.sweep.grid import literal, split, values_of
from budgetnet.values import hinting, number, true_or_false

_DIGITS = 4
"""Significant digits of a suggested number: what is trained is what the table shows."""


@hinting
@dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high`, both among them: whole ones where both are written so.

    With `log` each order of magnitude is as likely as another; `step` keeps to low, low + step, and so on.

        search(Trainer(), plan, {"recipe.phases.0.lr.peak": Between(1e-3, 1.0, log=True)}, trials=30)
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        number("Between's low", self.low)
        number("Between's high", self.high)
        true_or_false("Between's log", self.log)
        if not self.low < self.high:
            raise ValueError(
                f"Between's low should be below its high, and {self.low} is not below {self.high}"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"Between's low should be above 0 with log, not {self.low}")
        if self.step is not None:
            number("Between's step", self.step, above=0)
            if self.log:
                raise ValueError("Between has a log or a step: leave one of the two out")
            if self.whole and not isinstance(self.step, int):
                raise ValueError(f"Between's step should be whole where its ends are, not {self.step}")

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def value(self, suggested: float) -> float:
        """A suggested number as it is tried: of a few digits, and within the range."""
        if self.whole:
            return int(suggested)
        return min(max(float(f"{suggested:.{_DIGITS}g}"), float(self.low)), float(self.high))

    def __str__(self) -> str:
        step = f":{self.step!r}" if self.step is not None else ""
        return f"{'log:' if self.log else ''}{self.low!r}..{self.high!r}{step}"


Domain: TypeAlias = Between | tuple[Any, ...]
"""What the values of one setting are suggested from: a range, or a choice of values."""


def space(search: Mapping[str, Between | Iterable[Any] | str]) -> dict[str, Domain]:
    """The domain of each path; a text is read as `--search` has it. Raises ValueError."""
    if not search:
        raise ValueError(
            'a search needs something to search: {"recipe.phases.0.lr.peak": Between(1e-3, 1.0, log=True)} '
            "(--search recipe.phases.0.lr.peak=log:1e-3..1)"
        )
    domains: dict[str, Domain] = {}
    for path, given in search.items():
        domain = read_domain(given) if isinstance(given, str) else given
        if path == "recipe.seed" or not isinstance(domain, Between):
            domain = tuple(values_of(path, [] if isinstance(domain, Between) else domain))
        domains[path] = domain
    return domains


def read_search(texts: Sequence[str]) -> dict[str, str]:
    """`--search` as it is typed, by path: "recipe.phases.0.lr.peak=log:1e-3..1", "model.width=8..64:8"."""
    by_path: dict[str, str] = {}
    for text in texts:
        path, sign, values = text.partition("=")
        if not sign or not values.strip():
            raise ValueError(
                "--search should read PATH=LOW..HIGH, PATH=log:LOW..HIGH or PATH=VALUE,VALUE, such as "
                f"recipe.phases.0.lr.peak=log:1e-3..1, not {text!r}"
            )
        if path.strip() in by_path:
            raise ValueError(f"--search names {path.strip()} twice; give its values at once")
        by_path[path.strip()] = values.strip()
    return by_path


def read_domain(text: str) -> Domain:
    """One domain from text: LOW..HIGH, LOW..HIGH:STEP, log:LOW..HIGH, or values between commas."""
    bare = text.removeprefix("log:")
    low, dots, rest = bare.partition("..")
    high, colon, step = rest.partition(":")
    ends = [literal(part.strip()) for part in (low, high, *([step] if colon else []))]
    if dots and all(isinstance(end, int | float) and math.isfinite(end) for end in ends):
        return Between(ends[0], ends[1], log=bare != text, step=ends[2] if colon else None)
    if bare != text:
        raise ValueError(f"a range should read log:LOW..HIGH, such as log:1e-3..1, not {text!r:.100}")
    return tuple(literal(part) for part in split(text))
