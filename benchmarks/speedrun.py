"""Compares cifar10_speedrun through Trainer.fit with airbench94_muon.py: accuracy and time, on the same data.

    python benchmarks/speedrun.py --data DIR --airbench airbench94_muon.py

Trains the recipe --runs times with different seeds (20), after one run that is not counted, which warms the
GPU up and compiles; then lets the peer's file make as many runs, in a process of its own, on the same images.
Prints a Markdown table. Without --airbench only our side runs. The peer times its whitening, its steps and
its last test with six looks, and neither the validation after each epoch nor the loading of data; "train and
test" is our steps and such a test, "fit" is all that Trainer.fit takes, the images' way to the GPU included.

It has not been run on a GPU yet. On a CPU our side alone runs, 2 runs of a fiftieth of the recipe on 500
test images, which shows that the command works and nothing about speed.
"""

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from budgetnet import Data, Trainer
from budgetnet.console import say
from budgetnet.plan import Plan, read_plan

Figures = dict[str, list[float]]
ON_A_CPU = {"runs": 2, "scale": 0.02, "test_images": 500}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="data", help="the folder that holds cifar-10-batches-bin")
    parser.add_argument("--airbench", type=Path, help="airbench94_muon.py of KellerJordan/cifar10-airbench")
    parser.add_argument("--runs", type=int, default=None, help="of each side; 20, or 2 on a CPU")
    parser.add_argument("--scale", type=float, default=None, help="of our recipe; 1, or 0.02 on a CPU")
    parser.add_argument("--device", default=None)
    parser.add_argument(
        "--speed", default=None, help="of Trainer; compile, as the peer is, or eager on a CPU"
    )
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    if asked.airbench is not None and not asked.airbench.is_file():
        raise SystemExit(f"--airbench should name a file, and there is no {asked.airbench}")
    os.environ["BUDGETNET_DATA"] = asked.data
    on_cuda = Trainer(asked.device, out=None, show=False).device.type == "cuda"
    speed: Any = asked.speed or ("compile" if on_cuda else "eager")
    trainer = Trainer(asked.device, speed=speed, out=None, show=False)
    plan = read_plan("cifar10_speedrun")
    data = plan.data()
    runs, scale = asked.runs or 20, asked.scale or 1.0
    if not on_cuda:
        runs, scale = asked.runs or int(ON_A_CPU["runs"]), asked.scale or ON_A_CPU["scale"]
        assert data.test is not None
        data = replace(data, test=data.test.subset(slice(0, int(ON_A_CPU["test_images"]))))
    where = torch.cuda.get_device_name() if on_cuda else f"{torch.get_num_threads()} CPU threads"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    say(f"{where}, {versions}, {runs} runs of each side, speed {speed}")
    rows = [("Trainer.fit", ours(plan, data, trainer, runs, scale))]
    if asked.airbench is not None and on_cuda:
        rows.append((asked.airbench.name, theirs(asked.airbench, data, runs)))
    say(markdown(rows))
    if not on_cuda:
        say(f"on a CPU: {scale:g} of the recipe, 500 test images, without the peer, which needs CUDA")


def ours(plan: Plan, data: Data, trainer: Trainer, runs: int, scale: float) -> Figures:
    """Accuracy and seconds of `runs` runs; a first one, with other weights, is thrown away on CUDA."""
    found: Figures = {"accuracy": [], "train and test": [], "fit": []}
    warm = 1 if trainer.device.type == "cuda" else 0
    test = plan.recipe.phases[-1].test
    assert data.test is not None
    for seed in range(runs + warm):
        recipe = replace(plan.recipe.scaled(scale), seed=seed)
        torch.manual_seed(seed)
        model = plan.model()
        begun = time.perf_counter()
        run = trainer.fit(model, data, recipe)
        whole = time.perf_counter() - begun
        # `fit` does not time its last test apart: here it is once more.
        split = data.test.to(trainer.device)
        begun = time.perf_counter()
        trainer.evaluate(model, split, classes=data.classes, test=replace(test, crop=32), batch_size=2000)
        tested = time.perf_counter() - begun
        if seed < warm:
            continue
        found["accuracy"].append(float(run.result["test_accuracy"]))
        found["train and test"].append(sum(epoch.train_seconds for epoch in run.history) + tested)
        found["fit"].append(whole)
    return found


def theirs(file: Path, data: Data, runs: int) -> Figures:
    """The same of the peer's file, which is told how many runs to make and given its data in its own form."""
    source, count = re.subn(r"range\(200\)", f"range({runs})", file.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit(f"{file} should ask for its runs once, by range(200), and does so {count} times")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cifar10").mkdir()
        for name in ("train", "test"):
            split = data.splits[name]
            entries = {
                "images": split[:][0].permute(0, 2, 3, 1).contiguous(),
                "labels": split.labels,
                "classes": list(data.classes),
            }
            torch.save(entries, Path(folder) / "cifar10" / f"{name}.pt")
        script = Path(folder) / file.name
        script.write_text(source, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, script.name], cwd=folder, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"{file} failed: {done.stderr.strip().splitlines()[-1:]}")
    return read_log(done.stdout, runs)


def read_log(text: str, runs: int) -> Figures:
    """The accuracy with six looks and the seconds of each run, from the lines that airbench prints.

    Its first run is a warm-up on made-up labels. Raises ValueError where lines are missing.
    """
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines()]
    rows = [row for row in cells if "eval" in row and len(row) >= 3]
    if len(rows) != runs + 1:
        raise ValueError(f"expected {runs + 1} lines of final figures from the peer, and found {len(rows)}")
    last = rows[1:]
    return {"accuracy": [float(row[-2]) for row in last], "train and test": [float(row[-1]) for row in last]}


def markdown(rows: Sequence[tuple[str, Figures]]) -> str:
    """One line for each side; the ratio is of the median times, to the last side's."""
    peer = statistics.median(rows[-1][1]["train and test"])
    head = "| | n | test accuracy, mean | sd | train and test, s | ratio | fit, s |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for name, found in rows:
        accuracy = found["accuracy"]
        spread = 100 * statistics.stdev(accuracy) if len(accuracy) > 1 else float("nan")
        middle = statistics.median(found["train and test"])
        whole = f"{statistics.median(found['fit']):.2f}" if "fit" in found else ""
        ratio = f"{middle / peer:.3f}" if len(rows) > 1 else ""
        mean = f"{100 * statistics.mean(accuracy):.2f} %"
        lines.append(
            f"| {name} | {len(accuracy)} | {mean} | {spread:.2f} | {middle:.2f} | {ratio} | {whole} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
