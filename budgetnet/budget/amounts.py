"""Reads the amounts that users write ("2M", "300KiB") as exact whole numbers, and refuses the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from budgetnet.text import BYTES, COUNTS, quantity

MOST, WIDEST = 10**18, 65_536
"""The largest amount, and the most pixels of a side: far above any network, and far below what overflows."""
LONGEST = 10_000_000
"""The longest latency, in microseconds."""
_TIMES = {"us": 1, "ms": 1000, "s": 10**6}
_LONGEST = 40
_EXAMPLES = {
    "params": '2_000_000, "2M" or "300k"',
    "macs": '400_000_000, "400M" or "1.5G"',
    "bytes": '300_000, "300KB" (300,000 bytes) or "300KiB" (307,200 bytes)',
    "ram": '256_000, "256KB" (256,000 bytes) or "256KiB" (262,144 bytes)',
}


def amount(written: object, limit: str) -> int:
    """The whole number written for "params", "macs", "bytes" or "ram"; ValueError for anything else."""
    count = quantity(written, BYTES if limit in ("bytes", "ram") else COUNTS)
    if count is None or not 0 < count <= MOST or count != count.to_integral_value():
        raise ValueError(
            f"{limit}={_shown(written)} is not a budget, which is a whole number above 0: write "
            f"{_EXAMPLES[limit]}; {MOST:,} is the most"
        )
    return int(count)


def time(written: object) -> float:
    """A latency in seconds, whole microseconds of them; ValueError for what is no time up to 10 seconds."""
    micros = quantity(written, _TIMES if isinstance(written, str) else {})
    if micros is not None and not isinstance(written, str):
        micros = (micros * 10**6).to_integral_value()
    if micros is None or not 0 < micros <= LONGEST or micros != micros.to_integral_value():
        raise ValueError(
            f"latency={_shown(written)} is not a budget, which is a time above 0: write "
            '"20ms", "1.5ms", "800us" or 0.02 (seconds); 10 s is the most'
        )
    return int(micros) / 10**6


def options(written: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a whole budget in one text says, "bytes=300KB, stored=int8", with what was `given` beside it.

    `given` has every option, with None or False for what was not. Raises ValueError for others.
    """
    said = {option: value for option, value in given.items() if value not in (None, False)}
    for part in re.sub(r"(?<=\d),(?=\d{3}\b)", "", written).split(","):
        option, _, value = map(str.strip, part.partition("="))
        if option not in given or not value:
            raise ValueError(
                f"{part.strip()!r:.60} is not a part of a budget: write amounts as {', '.join(given)}, such "
                'as "bytes=300KB, stored=int8, ram=64KB, resolution=32"'
            )
        if option in said:
            raise ValueError(f"a budget's {option} is given twice: give it once")
        said[option] = _option(option, value)
    return said


def _option(option: str, value: str) -> Any:
    if option == "resolution" and value.isdecimal() and len(value) < _LONGEST:
        return int(value)
    if option == "scratch" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def shown(limit: str, cost: int) -> str:
    """A cost as a text has it: 1,234; a latency, in microseconds, as 1.234 ms."""
    return f"{cost / 1000:,.8g} ms" if limit == "latency" else f"{cost:,}"


def pixels(written: object) -> int:
    """A resolution: a whole number of pixels above 0; ValueError otherwise."""
    count = None if isinstance(written, str) else quantity(written, {})
    if count is None or not 0 < count <= WIDEST or count != count.to_integral_value():
        raise ValueError(
            f"resolution={_shown(written)} is not a whole number of pixels above 0: write resolution=96 for "
            f"96x96 images; {WIDEST:,} is the most"
        )
    return int(count)


def _shown(written: object) -> str:
    """What was written, in few characters; Python itself refuses to write out numbers of many digits."""
    if isinstance(written, int) and abs(written) > MOST:
        return "a number of more than 18 digits"
    shown = repr(written)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
