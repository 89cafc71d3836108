"""Times two processes of one thread that train one run against one process of two threads, on a CPU.

    python benchmarks/distributed.py [--processes 2] [--batch 128] [--steps 60] [--rounds 3] [--budget 2M]

Ways in turn, again and again, each a command of its own: one process with as many threads as there are
processes otherwise, and the processes with a thread each, with the norms of shares and with synchronised
ones; by budgetnet, images a second of the epochs' steps. Then the exchange alone: a step of the same network
on random images whose gradients are added up as one flat row (budgetnet's `pool`), against torch's
DistributedDataParallel. Prints a Markdown table of medians and ranges. Nothing is downloaded; the images are
random, 32 x 32. Keep the machine to itself meanwhile.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from report import machine, publish
from torch import Tensor, nn

from budgetnet import Budget, Crop, Flip, Phase, Recipe, Trainer, arrays, models
from budgetnet.engine import join
from budgetnet.engine.shares import pool
from budgetnet.run import Run

SIDE, CLASSES, WARM = 32, 10, 5


def network(asked: argparse.Namespace) -> nn.Module:
    """A residual network within the budget."""
    torch.manual_seed(0)
    return Budget(params=asked.budget).build(
        models.resnet, classes=CLASSES, widths=tuple(asked.widths), blocks=(2,) * len(asked.widths)
    )


def train(asked: argparse.Namespace) -> None:
    """Train two epochs on random images, in this process or as one of several."""
    torch.set_num_threads(asked.threads)
    count = asked.steps * asked.batch
    images = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    data = arrays(images.byte(), torch.arange(count) % CLASSES)
    recipe = Recipe([Phase(2, SIDE, 0.01, augment=[Crop(), Flip()])], batch_size=asked.batch, keep="last")
    trainer = Trainer("cpu", out=asked.out, show=False, sync_batchnorm=asked.sync)
    trainer.fit(network(asked), data, recipe)


def exchange(asked: argparse.Namespace) -> None:
    """Time steps of one process of several by both ways, and print the seconds of a step of each."""
    torch.set_num_threads(1)
    team, share = join(torch.device("cpu")), max(2, asked.batch // dist.get_world_size())
    images, labels = torch.randn(share, 3, SIDE, SIDE), torch.arange(share) % CLASSES

    def seconds(model: nn.Module, after: Callable[[nn.Module], None]) -> float:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        begun = 0.0
        for step in range(WARM + asked.steps):
            if step == WARM:
                dist.barrier()
                begun = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            loss: Tensor = F.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            after(model)
            optimizer.step()
        spent: float = (time.perf_counter() - begun) / asked.steps
        return spent

    flat = seconds(network(asked), lambda model: pool(team, model.parameters(), [], 1.0))
    torchs = seconds(nn.parallel.DistributedDataParallel(network(asked)), lambda model: None)
    bare = seconds(network(asked), lambda model: None)
    if team.leads:
        print(flat, torchs, bare)


def started(asked: argparse.Namespace, work: str, processes: int, threads: int, *more: str) -> str:
    """What a command of its own prints, of one process or of several."""
    typed = [__file__, "--work", work, "--threads", str(threads), "--batch", str(asked.batch)]
    typed += [
        "--steps",
        str(asked.steps),
        "--budget",
        asked.budget,
        "--widths",
        *map(str, asked.widths),
        *more,
    ]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), *typed]
    told = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=told, check=True, capture_output=True, text=True)
    return done.stdout


def pace(asked: argparse.Namespace, processes: int, threads: int, *more: str) -> float:
    """Images a second of the last epoch's steps."""
    with tempfile.TemporaryDirectory() as out:
        started(asked, "train", processes, threads, "--out", out, *more)
        (folder,) = Path(out).iterdir()
        epoch = Run.read(folder).history[-1]
        return epoch.images / epoch.train_seconds


def told(values: list[float], unit: str, factor: float = 1.0) -> str:
    """The median of some figures, and their range."""
    shown = sorted(value * factor for value in values)
    return f"{statistics.median(shown):,.1f} {unit} ({shown[0]:,.1f} to {shown[-1]:,.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", default="2M")
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--work", choices=["train", "exchange"], help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    parser.add_argument("--sync", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    asked = parser.parse_args()
    if asked.work:
        (train if asked.work == "train" else exchange)(asked)
        return
    many = asked.processes
    ways = {
        f"1 process, {many} threads": (1, many),
        f"{many} processes, 1 thread each": (many, 1),
        f"{many} processes, 1 thread each, norms synchronised": (many, 1, "--sync"),
    }
    paces: dict[str, list[float]] = {way: [] for way in ways}
    steps: list[list[float]] = []
    for _ in range(asked.rounds):
        for way, how in ways.items():
            paces[way].append(pace(asked, *how))
        steps.append([float(each) for each in started(asked, "exchange", many, 1).split()])
    rows = [[way, told(figures, "images/s")] for way, figures in paces.items()]
    names = ("a flat row of gradients", "DistributedDataParallel", "no exchange")
    rows += [[f"a step, {name}", told(list(each), "ms", 1000)] for name, each in zip(names, zip(*steps))]
    told_of = f"batches of {asked.batch}, {asked.budget}, widths {asked.widths}; {machine()}"
    publish("distributed", ["way", "median (range)"], rows, told=told_of, write=asked.write)


if __name__ == "__main__":
    main()
