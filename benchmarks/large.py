"""Times an epoch on images larger than the memory that is allowed, against the same images in memory.

    python benchmarks/large.py [--gigabytes 2] [--memory 0.25] [--side 96] [--batch 128] [--rounds 3]

Each round is three processes in turn: all images in memory, the images on disk read ahead, and these read
when they are used. From the first step on, those on disk may take --memory gigabytes more than they have then
(RLIMIT_DATA: anonymous memory, stacks of threads included), and nothing of the file is in the page cache
(posix_fadvise DONTNEED). The page cache itself is not limited: only a control group could do that. Prints
medians of images/s, and the most memory that was resident during the epoch.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from report import arguments, machine, publish

from budgetnet import SGD, Budget, Data, Phase, Recipe, Split, Trainer, models
from budgetnet.console import say
from budgetnet.data.disk import File, OnDisk
from budgetnet.layers import Standardise

WAYS = ("in memory", "on disk, read ahead", "on disk, read when used")


def write(path: Path, side: int, count: int) -> None:
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, count, 1000):
            images = random.integers(0, 256, (min(1000, count - start), 3 * side * side), dtype=np.uint8)
            file.write(images.data)
        os.fsync(file.fileno())


def held_now() -> dict[str, int]:
    """The bytes of this process: RssAnon and VmRSS resident, VmData asked for."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS", "VmData")}


@contextmanager
def watched(most: list[int]) -> Iterator[None]:
    """Leave the most anonymous and resident bytes in `most`."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            now = held_now()
            most[:] = map(max, most, (now["RssAnon"], now["VmRSS"]))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def read_when_used(split: Split, batches: object) -> Iterator[Split]:
    yield split


def child(asked: argparse.Namespace) -> None:
    """One epoch; prints a line of JSON."""
    torch.set_num_threads(1)
    each = 3 * asked.side**2
    path = Path(asked.file)
    count = path.stat().st_size // each
    images = OnDisk([File(path, 0, count, (3, asked.side, asked.side))], cache=path.parent)
    held = images.tensor() if asked.way == WAYS[0] else images
    train = Split(held, torch.arange(count) % 10, torch.arange(count))
    data = Data(train, None, None, tuple("0123456789"), "large")
    if asked.way == WAYS[2]:
        import budgetnet.engine.step as steps

        setattr(steps, "reading", read_when_used)  # noqa: B010
    model = Budget(params="50k").build(models.convnet, classes=10, widths=(8, 16))
    recipe = Recipe([Phase(1, asked.resolution, 0.01)], SGD(), batch_size=asked.batch, measure=())
    trainer = Trainer("cpu", out=None, show=False)
    for module in model.modules():
        if isinstance(module, Standardise):
            module.fit((0.5,) * 3, (0.29,) * 3)
    # The checks before a run read all images; what is timed is the epoch.
    epochs = trainer.epochs(model, data, recipe)
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    most = [0, 0]
    if asked.way != WAYS[0]:
        limit = held_now()["VmData"] + int(asked.memory * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    begun = time.process_time()
    with watched(most):
        epoch = next(iter(epochs))
    cpu = time.process_time() - begun
    print(
        json.dumps(
            {"rate": epoch.images / epoch.train_seconds, "cpu": cpu, "anonymous": most[0], "all": most[1]}
        )
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of images")
    parser.add_argument("--memory", type=float, default=0.25, help="gigabytes that an epoch may take")
    parser.add_argument("--side", type=int, default=96, help="of the stored images, in pixels")
    parser.add_argument("--resolution", type=int, default=24, help="that the network sees, in pixels")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=None, help="where the images are written")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        child(asked)
        return
    count = int(asked.gigabytes * 1e9) // (3 * asked.side**2)
    say(
        f"{count:,} images of {asked.side} px, {asked.gigabytes:g} GB, {asked.memory:g} GB for an epoch; "
        f"{os.cpu_count()} cores, 1 thread, torch {torch.__version__}, Python {platform.python_version()}"
    )
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        path = Path(folder, "images.bin")
        write(path, asked.side, count)
        for _ in range(asked.rounds):
            for way in WAYS:
                own = ["--file", str(path), "--way", way, *sys.argv[1:]]
                done = subprocess.run([sys.executable, __file__, *own], stdout=subprocess.PIPE, check=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
    plain = statistics.median(one["rate"] for one in found[WAYS[0]])
    rows = []
    for way, runs in found.items():
        rates = [one["rate"] for one in runs]
        middle, cpu = statistics.median(rates), statistics.median(one["cpu"] for one in runs)
        peaks = [f"{max(one[name] for one in runs) / 1e6:,.0f}" for name in ("anonymous", "all")]
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        rows.append(
            [way, f"{middle:,.0f}", spread, f"{middle / plain:.2f}x", f"{1e6 * cpu / count:.0f}", *peaks]
        )
    head = ["images", "images/s", "from to", "against memory", "CPU us/image", "anonymous MB", "resident MB"]
    told = (
        f"{count:,} images of {asked.side} px, {asked.gigabytes:g} GB, seen at {asked.resolution} px, "
        f"{asked.memory:g} GB of memory of its own allowed for an epoch on disk; one epoch, "
        f"n = {asked.rounds} each; {machine()}"
    )
    publish("large", head, rows, told=told, write=asked.write)


if __name__ == "__main__":
    main()
