"""Compares cifar10_speedrun through Trainer.fit with airbench94_muon.py: accuracy and time, on the same data.

    python benchmarks/speedrun.py --data DIR --airbench airbench94_muon.py

Trains the recipe --runs times with different seeds (20), after one run that is not counted, which warms the
GPU up and compiles; then lets the peer's file make as many runs, in a process of its own, on the same images.
Prints a Markdown table. Without --airbench only our side runs. The peer times its whitening, its steps and
its last test with six looks, and neither the validation after each epoch nor the loading of data; "train and
test" is our steps and such a test, "fit" is all that Trainer.fit takes, the images' way to the GPU included.

On an H100 our side's ten runs took a minute or two, and the peer's compilation more than was left of the
loan: its side has not been run on a GPU yet. On a CPU one run of each side takes an hour or so: `--runs 1
--scale 1`; without these, 2 runs of a fiftieth of our recipe show that the command works. The peer's file
asks for CUDA, so that some of its words are replaced there (WORDS has the list): the device; float16 by
float32 weights, under autocast to bfloat16 with --precision bf16, as our side has it; torch.compile by
nothing; its clock by time.perf_counter; and its first run, which only warms a GPU up, by none.
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
ON_A_CPU = {"runs": 2, "scale": 0.02}
CLOCK = """
import time
class Event:
    def __init__(self, **_): pass
    def record(self): self.at = time.perf_counter()
    def elapsed_time(self, other): return 1e3 * (other.at - self.at)
torch.cuda.Event, torch.cuda.synchronize = Event, lambda: None
"""
WORDS = (
    ("import torchvision\n", "import torchvision\n" + CLOCK),
    ("@torch.compile\n", ""),
    ('    model.compile(mode="max-autotune")\n', ""),
    ('    main("warmup", model)\n', ""),
    ("CifarNet().cuda()", "CifarNet()"),
    ('torch.device("cuda")', 'torch.device("cpu")'),
    ("mod.half()", "mod.float()"),
    ("self.images.half()", "self.images.float()"),
    (
        "    def forward(self, x, whiten_bias_grad=True):\n",
        "    def forward(self, x, whiten_bias_grad=True):\n"
        "        with torch.autocast('cpu', torch.bfloat16, enabled=BF16):\n"
        "            return self.forward_half(x, whiten_bias_grad).float()\n\n"
        "    def forward_half(self, x, whiten_bias_grad):\n",
    ),
)
"""What is replaced in the peer's file on a CPU, each once."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="data", help="the folder that holds cifar-10-batches-bin")
    parser.add_argument("--airbench", type=Path, help="airbench94_muon.py of KellerJordan/cifar10-airbench")
    parser.add_argument("--runs", type=int, default=None, help="of each side; 20, or 2 on a CPU")
    parser.add_argument("--scale", type=float, default=None, help="of our recipe; 1, or 0.02 on a CPU")
    parser.add_argument("--device", default=None)
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "float32"))
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
    trainer = Trainer(asked.device, precision=asked.precision, speed=speed, out=None, show=False)
    plan = read_plan("cifar10_speedrun")
    data = plan.data()
    runs = asked.runs or (20 if on_cuda else int(ON_A_CPU["runs"]))
    scale = asked.scale or (1.0 if on_cuda else ON_A_CPU["scale"])
    where = torch.cuda.get_device_name() if on_cuda else f"{torch.get_num_threads()} CPU threads"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    say(f"{where}, {versions}, {runs} runs of each side, {scale:g} of our recipe, speed {speed}")
    rows = [("Trainer.fit", ours(plan, data, trainer, runs, scale))]
    say(markdown(rows))
    if asked.airbench is not None:
        half = asked.precision == "bf16"
        rows.append((asked.airbench.name, theirs(asked.airbench, data, runs, cpu=not on_cuda, half=half)))
        say(markdown(rows))


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


def on_a_cpu(source: str, half: bool) -> str:
    """The peer's file for a CPU; raises SystemExit where it is not the file that WORDS is about."""
    for word, other in WORDS:
        if source.count(word) != 1:
            raise SystemExit(
                f"the peer's file should have {word.strip()!r} once, not {source.count(word)} times"
            )
        source = source.replace(word, other)
    return f"BF16 = {half}\n{source}"


def theirs(file: Path, data: Data, runs: int, *, cpu: bool, half: bool) -> Figures:
    """The same of the peer's file, which is told how many runs to make and given its data in its own form."""
    source, count = re.subn(r"range\(200\)", f"range({runs})", file.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit(f"{file} should ask for its runs once, by range(200), and does so {count} times")
    if cpu:
        source = on_a_cpu(source, half)
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
    return read_log(done.stdout, runs, warm=0 if cpu else 1)


def read_log(text: str, runs: int, warm: int = 1) -> Figures:
    """The accuracy with six looks and the seconds of each run, from the lines that airbench prints.

    Its first run on a GPU is a warm-up on made-up labels. Raises ValueError where lines are missing.
    """
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines()]
    rows = [row for row in cells if "eval" in row and len(row) >= 3]
    if len(rows) != runs + warm:
        raise ValueError(
            f"expected {runs + warm} lines of final figures from the peer, and found {len(rows)}"
        )
    last = rows[warm:]
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
