"""Reads the amounts that users write ("2M", "300KiB") as exact whole numbers, and refuses the rest."""

from __future__ import annotations

from budgetnet.text import BYTES, COUNTS, quantity

MOST, WIDEST = 10**18, 65_536
"""The largest amount, and the most pixels of a side: far above any network, and far below what overflows."""
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
