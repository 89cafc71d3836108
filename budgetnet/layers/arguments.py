"""Refusals of arguments that no layer can be built from: one sentence each, naming the builder."""

from collections.abc import Callable, Collection
from numbers import Integral, Real
from typing import TypeAlias

from torch import nn

from budgetnet.values import above_zero, share, whole

Norm: TypeAlias = Callable[[int], nn.Module]
"""A function from a channel count to a normalisation, such as `nn.BatchNorm2d`."""

Act: TypeAlias = Callable[[], nn.Module]
"""A function of no arguments that returns a fresh activation, such as `nn.ReLU` or `leaky`."""


def require_counts(builder: str, *, least: int = 1, **counts: object) -> None:
    """Refuse every count that is not a whole number of at least `least`, with a ValueError."""
    for name, count in counts.items():
        whole(f"{builder}: {name}", _plain(count), least)


def _plain(value: object) -> object:
    """A number of another library, such as numpy's, as Python's own."""
    if isinstance(value, int | float):
        return value
    return int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value


def require_stages(builder: str, **counts: object) -> None:
    """Refuse lists of counts, one for each stage, that are empty or not equally long, with a ValueError."""
    lengths = {}
    for name, stages in counts.items():
        if isinstance(stages, str) or not isinstance(stages, Collection) or not len(stages):
            raise ValueError(
                f"{builder}: {name} should be a tuple of one number for each stage, not {stages!r}"
            )
        require_counts(builder, **{f"{name}[{index}]": count for index, count in enumerate(stages)})
        lengths[name] = len(stages)
    if len(set(lengths.values())) > 1:
        listed = " and ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"{builder}: {' and '.join(lengths)} should be equally long, not {listed}")


def require_rates(builder: str, **rates: object) -> None:
    """Refuse every rate outside [0, 1), with a ValueError: at 1 nothing would be left to learn from."""
    for name, rate in rates.items():
        share(f"{builder}: {name}", _plain(rate))


def require_positive(builder: str, **numbers: object) -> None:
    """Refuse every number that is not finite and above 0, with a ValueError."""
    for name, number in numbers.items():
        above_zero(f"{builder}: {name}", _plain(number))


def require_multiple(builder: str, name: str, count: int, factor_name: str, factor: int) -> None:
    """Refuse a count that is not a multiple of `factor`, with a ValueError that names the nearest ones."""
    if count % factor:
        below, above = count - count % factor, count - count % factor + factor
        nearest = f"{below} or {above}" if below else f"{above}"
        raise ValueError(
            f"{builder}: {name} should be a multiple of {factor_name}={factor}, not {count}; "
            f"{nearest} would do"
        )


def require_makers(builder: str, *, optional: bool = False, **makers: object) -> None:
    """Refuse what is not a function that makes a module, or None where optional, with a ValueError."""
    for name, maker in makers.items():
        if maker is None and optional:
            continue
        if isinstance(maker, nn.Module):
            kind = type(maker).__name__
            raise ValueError(
                f"{builder}: {name} should be a function that makes a module, so that every layer has its "
                f"own, not one module, {kind}(...); pass {kind} itself, or a lambda that returns it"
            )
        if not callable(maker):
            raise ValueError(f"{builder}: {name} should be a function that makes a module, not {maker!r}")
