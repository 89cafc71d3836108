"""Times how soon a command is at work, in fresh processes in turn: --help, a dry run, a run's first step.

    python benchmarks/start.py --data DIR [--before CHECKOUT] [--rounds 5] [--write]

`--data` holds STL-10, of which `stl10_afternoon` is begun. `--before` is another checkout, such as `git
worktree add` makes, measured in turn with this one: on a machine that is busy only ratios mean something. A
stage's seconds are the processor's, of all threads and of git; modules that a stage imports count as imports.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from report import arguments, machine, publish, spread

RUN = ("run", "stl10_afternoon", "--scale", "0.02", "-q")
COMMANDS = {
    "--help": ("--help",),
    "quickstart --dry-run": ("run", "quickstart", "--dry-run"),
    "to the first step": RUN,
}
STAGES = ("imports", "model", "data", "checks", "trial", "first step")

CHILD = '''
import builtins, json, os, sys
from functools import wraps

def spent():
    return sum(os.times()[:4])

stages, depth, imports = {}, 0, builtins.__import__

def importing(*args, **kwargs):
    global depth
    if depth:
        return imports(*args, **kwargs)
    depth, begun = 1, spent()
    try:
        return imports(*args, **kwargs)
    finally:
        depth = 0
        stages["imports"] = stages.get("imports", 0) + spent() - begun

def timed(function, name):
    @wraps(function)
    def call(*args, **kwargs):
        begun, importing = spent(), stages["imports"]
        try:
            return function(*args, **kwargs)
        finally:
            stages[name] = spent() - begun - (stages["imports"] - importing)
    return call

def stepped(optimizer, *_):
    """Told of every step: first of some of tiny tensors, which measure an optimizer's state."""
    at = spent() - stages["imports"]
    if optimizer.param_groups[0]["lr"] == 1e-20:
        stages.setdefault("checked", at)
        stages["tried"] = at
    elif sum(each.numel() for each in optimizer.param_groups[0]["params"]) > 1e6:
        stages["checks"] = stages["checked"] - stages["model"] - stages["data"]
        stages["trial"] = stages["tried"] - stages["checked"]
        stages["first step"] = at - stages["tried"]
        print(json.dumps(stages), file=sys.stderr, flush=True)
        os._exit(0)

builtins.__import__ = importing
from budgetnet.cli import main
if sys.argv[-1] == "-q":
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook
    from budgetnet.plan import Plan
    Plan.model, Plan.data = timed(Plan.model, "model"), timed(Plan.data, "data")
    register_optimizer_step_post_hook(stepped)
main()
'''


def start(checkout: Path, command: tuple[str, ...], data: str) -> tuple[float, float, dict[str, float]]:
    """Seconds of the clock and of the processor that a fresh process of a checkout takes, and its stages."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "BUDGETNET_DATA": data}
    before, begun = os.times(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *command],
            check=False,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
    wall, after = time.perf_counter() - begun, os.times()
    if done.returncode:
        raise SystemExit(f"budgetnet {' '.join(command)} of {checkout} failed:\n{done.stderr}")
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    stages = json.loads(done.stderr.splitlines()[-1]) if command == RUN else {}
    return wall, spent, stages


def measured(checkouts: dict[str, Path], asked: argparse.Namespace) -> list[list[str]]:
    """A row for each command, then one for each stage of the last: CPU and wall seconds of all checkouts."""
    rows = []
    for name, command in COMMANDS.items():
        found: dict[str, list[tuple[float, float, dict[str, float]]]] = {side: [] for side in checkouts}
        for _ in range(1 + asked.rounds):
            for side, checkout in checkouts.items():
                found[side].append(start(checkout, command, os.path.abspath(asked.data)))
        # The first of each is not counted: it compiles and reads what is cached for the others.
        counted = {side: each[1:] for side, each in found.items()}
        rows.append(
            _row(name, "CPU", {side: [spent for _, spent, _ in each] for side, each in counted.items()})
        )
        rows.append(
            _row(name, "wall", {side: [wall for wall, _, _ in each] for side, each in counted.items()})
        )
        for stage in STAGES if command == RUN else ():
            part = {side: [stages[stage] for _, _, stages in each] for side, each in counted.items()}
            rows.append(_row(f"  {stage}", "CPU", part))
    return rows


def _row(name: str, kind: str, seconds: dict[str, list[float]]) -> list[str]:
    sides = list(seconds.values())
    ratio = (
        statistics.median(now / then for now, then in zip(sides[0], sides[-1])) if len(sides) > 1 else None
    )
    return [name, kind, *map(spread, sides), *([f"{ratio:.2f}x"] if ratio is not None else [])]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", default="data", help="the folder that holds STL-10")
    parser.add_argument("--before", type=Path, help="another checkout, to be measured beside this one")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)  # as in the processes that are timed
    checkouts = {"now": Path(__file__).parents[1]}
    if asked.before is not None:
        checkouts["before"] = asked.before.resolve()
    told = f"fresh processes in turn, n = {asked.rounds}, medians (middle half) of seconds; {machine()}"
    columns = ["command", "time", *checkouts, *(["now to before"] if len(checkouts) > 1 else [])]
    publish("start", columns, measured(checkouts, asked), told=told, left=2, write=asked.write)


if __name__ == "__main__":
    main()
