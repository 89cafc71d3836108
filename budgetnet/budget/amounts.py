"""Reads the amounts that users write ("2M", "300KiB") as exact whole numbers, and refuses the rest."""

from __future__ import annotations

import operator
import re
from decimal import Decimal, InvalidOperation

_WRITTEN = re.compile(r"(\d[\d_,]*(?:\.\d+)?(?:[eE]\d+)?)\s*([A-Za-z]*)")
_COUNTED = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_BYTES = {
    "": 1,
    "b": 1,
    "k": 10**3,
    "kb": 10**3,
    "kib": 2**10,
    "m": 10**6,
    "mb": 10**6,
    "mib": 2**20,
    "g": 10**9,
    "gb": 10**9,
    "gib": 2**30,
}
_EXAMPLES = {
    "params": '2_000_000, "2M" or "300k"',
    "macs": '400_000_000, "400M" or "1.5G"',
    "bytes": '300_000, "300KB" (300,000 bytes) or "300KiB" (307,200 bytes)',
}


def amount(written: object, limit: str) -> int:
    """The whole number written for the limit "params", "macs" or "bytes"; ValueError for anything else."""
    found = _written(written, _BYTES if limit == "bytes" else _COUNTED)
    if found is None or found <= 0 or found != found.to_integral_value():
        raise ValueError(
            f"{limit}={written!r} is not a budget, which is a whole number above 0: write {_EXAMPLES[limit]}"
        )
    return int(found)


def pixels(written: object) -> int:
    """A resolution: a whole number of pixels above 0; ValueError otherwise."""
    found = None if isinstance(written, str) else _written(written, {})
    if found is None or found <= 0 or found != found.to_integral_value():
        raise ValueError(
            f"resolution={written!r} is not a whole number of pixels above 0: write resolution=96 for 96x96 "
            "images"
        )
    return int(found)


def _written(written: object, units: dict[str, int]) -> Decimal | None:
    if isinstance(written, bool):
        return None
    if isinstance(written, str):
        match = _WRITTEN.fullmatch(written.strip())
        unit = None if match is None else units.get(match[2].lower())
        if match is None or unit is None:
            return None
        return Decimal(match[1].replace("_", "").replace(",", "")) * unit
    if isinstance(written, float):
        return Decimal(written) if abs(written) < float("inf") else None  # a nan compares false
    try:
        return Decimal(operator.index(written))  # type: ignore[arg-type]
    except (TypeError, InvalidOperation):
        return None
