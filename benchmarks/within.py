"""How near to the time that it was asked for a run ends: the time taken over --within, again and again.

    python benchmarks/within.py [--recipe stl10_afternoon] [--within 60s 5m] [--rounds 5] [--write] \
        -- --data DIR

Each run is a command of its own, timed whole, with the start of Python and torch; what comes after `--` is
given to it. Prints a table: for each time the ratio's median and range, that of the training's own seconds
to what was foretold, the scales that were chosen, and how long everything but the training took. A recipe
that is shorter than the time stays as it is, scale 1, and says nothing. On a machine that is busy with other
things the figures say how busy it was, and nothing of budgetnet.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from report import arguments, machine, publish

from budgetnet.run import Run
from budgetnet.text import seconds

PROGRAM = "from budgetnet.cli import main; main(prog_name='budgetnet')"


def measured(recipe: str, within: str, more: list[str], threads: int) -> tuple[float, Run]:
    """The seconds of a whole command, and its run."""
    with tempfile.TemporaryDirectory() as out:
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", PROGRAM, "run", recipe, "--within", within, "-q", "--out", out, *more],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        spent = time.perf_counter() - begun
        return spent, Run.read(next(Path(out).iterdir()))


def between(numbers: list[float]) -> str:
    """The median of some numbers, and their range."""
    return f"{statistics.median(numbers):.3f} ({min(numbers):.3f} to {max(numbers):.3f})"


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--recipe", default="stl10_afternoon")
    parser.add_argument("--within", nargs="+", default=["60s", "5m"], metavar="TIME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("more", nargs="*", help="after --: options of `budgetnet run`")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)  # as in the processes that are timed
    rows = []
    for within in asked.within:
        found = [measured(asked.recipe, within, asked.more, asked.threads) for _ in range(asked.rounds)]
        limit = seconds(within, "within") or 0.0
        plans = [run.record["within"] for _, run in found]
        whole = [spent / limit for spent, _ in found]
        foretold = [run.result["seconds"] / plan["expected"] for (_, run), plan in zip(found, plans)]
        scales = [run.record["scale"] for _, run in found]
        before = statistics.median(spent - run.result["seconds"] for spent, run in found)
        row = [within, str(asked.rounds), between(whole), between(foretold)]
        rows.append([*row, f"{min(scales):g} to {max(scales):g}", f"{before:.1f} s"])
    columns = [
        "within",
        "n",
        "whole command / asked",
        "training / foretold",
        "scales",
        "beside the training",
    ]
    told = f"{asked.recipe} {' '.join(asked.more)}".strip()
    publish("within", columns, rows, told=f"{told}; {machine()}", write=asked.write)


if __name__ == "__main__":
    main()
