"""Times several seeds of a recipe trained together against one after the other, in images a second of all.

    python benchmarks/together.py [--recipe quickstart] [--seeds 4] [--scale 0.2] [--rounds 3] [--together 2]

Ways in turn, again and again: one after the other in one process with all threads, the same with one
thread, and together in K processes that share the threads out. Each is a command of its own, timed from the
beginning of the first run to the end of the last one (`--time training`, the default), or whole, with the
start of Python and torch (`--time all`). Prints a Markdown table: medians, their range, CPU seconds of the
whole command for 1,000 images, and ratios to the first. On a machine with a GPU the same command measures
that. With `--stacked`, the networks of the seeds as one under torch.func (stack_module_state and vmap) are
timed against one after the other too, step by step, on a CPU in CPU time.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from report import machine, publish
from torch import Tensor, nn

from budgetnet.plan import Plan, read_plan
from budgetnet.run import Run

PROGRAM = "from budgetnet.cli import main; main(prog_name='budgetnet')"


def measured(asked: argparse.Namespace, threads: int, together: int) -> tuple[float, float]:
    """Images a second that all the runs of one command saw, and its CPU seconds for 1,000 of them."""
    typed = ["run", asked.recipe, "--seeds", asked.seeds, "--scale", asked.scale, "--together", together]
    typed += ["--data", asked.data, "-q"] if asked.data else ["-q"]
    with tempfile.TemporaryDirectory() as out:
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", PROGRAM, *map(str, typed), "--out", out],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        spent, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        work = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        runs = [Run.read(folder) for folder in Path(out).iterdir()]
        images = sum(epoch.images for run in runs for epoch in run.history)
        if asked.time == "training":
            # A record is written when a training is about to begin, and again when it ends.
            born = min((folder / "seen.safetensors").stat().st_mtime for folder in Path(out).iterdir())
            spent = max((folder / "run.json").stat().st_mtime for folder in Path(out).iterdir()) - born
    return images / spent, 1000 * work / images


def processes(asked: argparse.Namespace) -> list[list[str]]:
    """A row for each way of training the runs of one command."""
    cores = len(os.sched_getaffinity(0))
    ways = {
        f"one after the other, {cores} threads": (cores, 1),
        "one after the other, 1 thread": (1, 1),
        f"together, {asked.together} processes, {max(1, cores // asked.together)} thread(s) each": (
            cores,
            asked.together,
        ),
    }
    paces: dict[str, list[float]] = {way: [] for way in ways}
    works: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(asked.rounds):
        for way, (threads, together) in ways.items():
            pace, work = measured(asked, threads, together)
            paces[way].append(pace)
            works[way].append(work)
    return rows(paces, works)


def stacked(asked: argparse.Namespace) -> list[list[str]]:
    """A row for steps of the networks one after the other, and as one under vmap; no augmentation."""
    plan = read_plan(asked.recipe)
    models = [plan.changed(f"recipe.seed={seed}").model() for seed in range(asked.seeds)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clock = time.perf_counter if device == "cuda" else time.process_time
    ways = {
        "steps one after the other": _each([model.to(device) for model in models]),
        "steps stacked (torch.func)": _stack([model.to(device) for model in models]),
    }
    batch, size = plan.recipe.batch_size, plan.recipe.phases[0].last_resolution
    images = torch.rand(asked.seeds, batch, _channels(plan), size, size, device=device)
    labels = torch.randint(0, 10, (asked.seeds, batch), device=device)
    paces: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(asked.rounds * 3 + 1):
        for way, step in ways.items():
            begun = clock()
            step(images, labels)
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                paces[way].append(labels.numel() / (clock() - begun))
    return rows(paces, {way: [] for way in ways})


def _channels(plan: Plan) -> int:
    first = next(module for module in plan.model().modules() if isinstance(module, nn.Conv2d))
    return first.in_channels


def _each(models: list[nn.Module]) -> Callable[[Tensor, Tensor], None]:
    optimizers = [torch.optim.SGD(model.parameters(), 0.01, momentum=0.9) for model in models]

    def step(images: Tensor, labels: Tensor) -> None:
        for model, optimizer, x, y in zip(models, optimizers, images, labels):
            F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def _stack(models: list[nn.Module]) -> Callable[[Tensor, Tensor], None]:
    from torch.func import functional_call, stack_module_state

    parameters, buffers = stack_module_state(models)
    # Batch norm counts its batches in place, which vmap refuses; nothing reads the count here.
    buffers = {name: held for name, held in buffers.items() if not name.endswith("num_batches_tracked")}
    for module in models[0].modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = None
    optimizer = torch.optim.SGD(list(parameters.values()), 0.01, momentum=0.9)

    def loss(held: dict[str, Tensor], more: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(models[0], (held, more), (x,)), y)

    def step(images: Tensor, labels: Tensor) -> None:
        losses = torch.vmap(loss, randomness="different")(parameters, buffers, images, labels)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def rows(paces: dict[str, list[float]], works: dict[str, list[float]]) -> list[list[str]]:
    """Medians, ranges, CPU seconds, and ratios to the first."""
    base = statistics.median(next(iter(paces.values())))
    return [
        [
            way,
            f"{statistics.median(found):,.0f}",
            f"{min(found):,.0f} to {max(found):,.0f}",
            str(len(found)),
            f"{statistics.median(works[way]):.2f}" if works[way] else "-",
            f"{statistics.median(found) / base:.2f}x",
        ]
        for way, found in paces.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--scale", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--together", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--time", choices=("training", "all"), default="training")
    parser.add_argument("--stacked", action="store_true")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    asked = parser.parse_args()
    told = f"{asked.recipe}, {asked.seeds} seeds, scale {asked.scale:g}, time of {asked.time}; {machine()}"
    columns = ["way", "images/s", "from to", "n", "CPU s for 1,000", "to the first"]
    found = stacked(asked) if asked.stacked else processes(asked)
    publish("together", columns, found, told=told, write=asked.write and not asked.stacked)


if __name__ == "__main__":
    main()
