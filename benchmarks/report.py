"""Report: what every benchmark says of its machine, and its figures as a Markdown table."""

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def machine(*packages: str, threads: int | None = None) -> str:
    """The machine and the versions that figures belong to, in one line."""
    cores = os.cpu_count() or 1
    found = [f"{_processor()}, {cores} core{'' if cores == 1 else 's'}"]
    if threads is not None:
        found.append(f"{threads} thread{'' if threads == 1 else 's'}")
    found.append(f"Python {platform.python_version()}")
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], form: str = "{:.3f}") -> str:
    """The median, and from where to where half of the values lie."""
    middle = statistics.median(values)
    if len(values) < 3:
        return form.format(middle)
    low, _, high = statistics.quantiles(values, n=4)
    return f"{form.format(middle)} ({form.format(low)} to {form.format(high)})"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] not in ("", "unknown") else platform.machine()
