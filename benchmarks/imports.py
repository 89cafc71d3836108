"""Times imports in fresh processes, side by side: torch, budgetnet and its kin, and how soon --help answers.

    python benchmarks/imports.py [--rounds 7]

Everything is imported once before, unmeasured, so that files are cached and compiled; then each in turn,
again and again. Packages that are not installed are left out.
"""

import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec

from report import arguments, machine, publish, spread

ALONE = {
    "python": "pass",
    "torch": "import torch",
    "budgetnet": "import torch, budgetnet",
    "budgetnet.Trainer": "import torch; from budgetnet import Trainer, Recipe, Phase, models, stl10",
    "budgetnet, all names": "import torch; from budgetnet import *",
    "budgetnet --help": "from budgetnet.cli import main; main(['--help'])",
}
PEERS = ("torchvision", "lightning", "keras", "fastai")


def cost(code: str) -> tuple[float, float]:
    """Seconds of the clock and of the processor that a fresh process takes for `code`."""
    before, begun = os.times(), time.perf_counter()
    environment = {**os.environ, "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=environment)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begun, spent


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    rounds = asked.rounds
    installed = [peer for peer in PEERS if find_spec(peer) is not None]
    codes = {**ALONE, **{peer: f"import torch, {peer}" for peer in installed}}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in codes}
    for code in codes.values():
        cost(code)
    for _ in range(rounds):
        for name, code in codes.items():
            found[name].append(cost(code))
    rows = []
    for name, costs in found.items():
        walls, spent = zip(*costs)
        # Against the torch of the same round, so that what else the machine does meets both.
        more = [one[1] - base[1] for one, base in zip(costs, found["torch"])]
        beyond = f"{statistics.median(more):+.3f}" if name not in ("python", "torch") else ""
        rows.append([name, spread(spent), spread(walls), beyond])
    told = f"fresh processes in turn, n = {rounds}, medians (middle half); {machine(*installed)}"
    publish(
        "imports", ["import", "CPU s", "wall s", "CPU s beyond torch"], rows, told=told, write=asked.write
    )


if __name__ == "__main__":
    main()
