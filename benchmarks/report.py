"""Where a benchmark's figures go: the terminal, and with --write its section of docs/benchmarks.md."""

import argparse
import math
import os
import platform
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch

from budgetnet import Trainer
from budgetnet.console import say, table
from budgetnet.text import duration

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows --threads and --write."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1, help="torch's threads on the CPU")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    return parser


def training_arguments(description: str | None, data: str) -> argparse.ArgumentParser:
    """A parser for what trains on the images in the folder `data` of --data."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="data", help=f"the folder that holds {data}")
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "float32"])
    parser.add_argument("--device", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="runs")
    return parser


def started(asked: argparse.Namespace) -> Trainer:
    """The trainer of such arguments; says where it is, and all that was asked."""
    os.environ["BUDGETNET_DATA"] = asked.data
    trainer = Trainer(asked.device, precision=asked.precision, out=asked.out)
    say(f"{machine()}; {asked}")
    return trainer


def machine(*peers: str) -> str:
    """The machine and the versions, those of `peers` (installed distributions) included."""
    from importlib.metadata import PackageNotFoundError, version

    versions = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    for peer in peers:
        try:
            versions.append(f"{peer} {version(peer)}")
        except PackageNotFoundError:
            continue
    if torch.cuda.is_available():
        where = torch.cuda.get_device_name()
    else:
        threads = torch.get_num_threads()
        where = f"{_processor()}, {os.cpu_count()} cores, {threads} thread{'s' if threads != 1 else ''}"
    return ", ".join([where, *versions])


def spent(seconds: float) -> str:
    """Seconds as a page tells them, where hours could be taken for minutes: "4.2 s", "1 h 56 min 28 s"."""
    if not 59.95 <= seconds < math.inf:
        return duration(seconds)
    minutes, rest = divmod(round(seconds), 60)
    parts = (minutes // 60, "h"), (minutes % 60, "min"), (rest, "s")
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def spread(values: Sequence[float], form: str = "{:.3f}") -> str:
    """The median, and from where to where half of the values lie."""
    middle = statistics.median(values)
    if len(values) < 3:
        return form.format(middle)
    low, _, high = statistics.quantiles(values, n=4)
    return f"{form.format(middle)} ({form.format(low)} to {form.format(high)})"


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def publish(
    section: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    told: str,
    left: int = 1,
    write: bool = False,
) -> None:
    """Show a table whose first `left` columns are words, and write it to the page under `section`.

    `told` says how it was measured: the machine, versions, n.
    """
    table(columns, rows, title=told, left=left)
    if not write:
        return
    marks = [":--" if k < left else "--:" for k in range(len(columns))]
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, marks, *rows)]
    body = "\n".join([f"<!-- {section} -->", "", f"{told}.", "", *lines, "", f"<!-- end of {section} -->"])
    page = PAGE.read_text()
    there = re.compile(rf"<!-- {section} -->.*?<!-- end of {section} -->", re.DOTALL)
    if not there.search(page):
        raise SystemExit(f"{PAGE} should hold <!-- {section} --> and <!-- end of {section} -->, and does not")
    PAGE.write_text(there.sub(lambda _: body, page))
    say(f"written into {PAGE}")
