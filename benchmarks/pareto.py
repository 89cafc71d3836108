"""Accuracy over size and over CPU hours: of the trained weights that come along, and of runs that are named.

    python benchmarks/pareto.py [RUN ...] [--plot docs/pareto.svg] [--write]

Reads weights/NAME.json with NAME.safetensors and NAME.metrics.jsonl beside it, and the folders of runs; what
is there is taken, and a run that has not ended is passed over. Accuracy is that of the run's own last test,
on the test images where it measured them. Hours are those of the run times its threads, its own tests
included, and drawn for a CPU alone; the thin lines are what it had learnt until then.
"""

import json
import math
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import publish, spent

from budgetnet.console import say
from budgetnet.reporting import blank, write_figure
from budgetnet.text import percent, size

HOUSE = Path(__file__).parents[1]
ORIGINALS = {"stl10": ("the original, 16 GPU hours", 1_996_986, 0.8401)}
"""What is marked beside the runs on a data set: its name, parameters and accuracy."""


@dataclass(frozen=True)
class Trained:
    """A finished training: what it weighs, what it took, and what it reached.

    `curve` are its hours and accuracies, epoch by epoch.
    """

    name: str
    data: str
    split: str
    accuracy: float
    parameters: int
    bytes: int
    hours: float
    device: str
    curve: tuple[tuple[float, float], ...] = ()


def read(name: str, record: Path, weights: Path, metrics: Path) -> Trained | None:
    """The training whose files these are; None where it has not ended or measured nothing."""
    told = json.loads(record.read_text())
    result: dict[str, Any] = told.get("result", {})
    split = next((each for each in ("test", "val") if result.get(f"{each}_accuracy") is not None), None)
    if told.get("status") != "finished" or split is None or not weights.exists():
        return None
    on_cpu = str(told.get("device", "cpu")).startswith("cpu")
    threads = int(told.get("threads") or 1) if on_cpu else 1
    seconds, points = 0.0, []
    for line in metrics.read_text().splitlines() if metrics.exists() else ():
        epoch = json.loads(line)
        seconds += epoch["train_seconds"] + (epoch.get("val_seconds") or 0)
        if epoch.get(f"{split}_accuracy") is not None:
            points.append((seconds * threads / 3600, float(epoch[f"{split}_accuracy"])))
    return Trained(
        name,
        str(told["data"]["name"]),
        split,
        float(result[f"{split}_accuracy"]),
        int(told["model"]["parameters"]),
        weights.stat().st_size,
        max(seconds, float(result["seconds"])) * threads / 3600,
        "CPU" if on_cpu else "GPU",
        tuple(points),
    )


def found(folder: Path, runs: list[Path]) -> list[Trained]:
    """All of the weights in `folder` and of the runs that can be read, the smallest file first."""
    files = [
        (each.stem, each, each.with_suffix(".safetensors"), each.with_suffix(".metrics.jsonl"))
        for each in sorted(folder.glob("*.json"))
    ]
    files += [(run.name, run / "run.json", run / "model.safetensors", run / "metrics.jsonl") for run in runs]
    trained = []
    for name, record, weights, metrics in files:
        each = read(name, record, weights, metrics)
        if each is None:
            say(f"{name} is passed over: it has not ended, measured nothing or has no weights")
        else:
            trained.append(each)
    return sorted(trained, key=lambda each: (each.data, each.bytes, each.hours))


def front(trained: list[Trained], cost: str) -> list[Trained]:
    """Those that nothing is as accurate as for less of `cost`, the cheapest first."""
    kept: list[Trained] = []
    for each in sorted(trained, key=lambda each: (getattr(each, cost), -each.accuracy)):
        if not kept or each.accuracy > kept[-1].accuracy:
            kept.append(each)
    return kept


def decades(values: list[float]) -> tuple[float, float]:
    """The powers of ten around some values, so that an axis has two at least."""
    return 10.0 ** math.floor(math.log10(min(values))), 10.0 ** (math.floor(math.log10(max(values))) + 1)


def draw(trained: list[Trained], path: Path) -> None:
    """For each data set accuracy over bytes, over parameters and over hours, the front as a line."""
    sets = sorted({each.data for each in trained})
    figure = blank(11, 3.4 * len(sets))
    grid = figure.subplots(len(sets), 3, squeeze=False, sharey="row")
    costs = {"bytes": "bytes of the file", "parameters": "parameters", "hours": "CPU hours"}
    for row, data in zip(grid, sets, strict=True):
        here = [each for each in trained if each.data == data]
        for axes, (cost, label) in zip(row, costs.items(), strict=True):
            drawn = [each for each in here if cost != "hours" or each.device == "CPU"]
            for number, each in enumerate(here):
                if each not in drawn:
                    continue
                colour, accuracy = f"C{number % 10}", 100 * each.accuracy
                axes.plot(getattr(each, cost), accuracy, "o", color=colour, label=each.name)
                if cost == "hours" and each.curve:
                    hours, learnt = zip(*each.curve, strict=True)
                    axes.plot(hours, [100 * part for part in learnt], color=colour, linewidth=0.7)
            best = front(drawn, cost)
            axes.plot([getattr(each, cost) for each in best], [100 * each.accuracy for each in best], "k:")
            if cost == "parameters" and data in ORIGINALS:
                name, parameters, accuracy = ORIGINALS[data]
                axes.plot(parameters, 100 * accuracy, "x", color="0.4", label=name)
            axes.set_xscale("log")
            if drawn:
                axes.set_xlim(*decades([getattr(each, cost) for each in drawn]))
            axes.set_xlabel(label)
        row[0].set_ylabel(f"{data}: accuracy (%)")
        row[1].legend(frameon=False, fontsize="small")
    write_figure(figure, path)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of finished runs, beside the weights")
    parser.add_argument("--weights", type=Path, default=HOUSE / "weights")
    parser.add_argument("--plot", type=Path, default=HOUSE / "docs" / "pareto.svg")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    asked = parser.parse_args()
    trained = found(asked.weights, asked.runs)
    if not trained:
        raise SystemExit(f"there is nothing to draw: {asked.weights} holds no trained weights")
    draw(trained, asked.plot)
    say(f"the plot is in {asked.plot}")
    columns = ["trained", "on", "accuracy", "of", "parameters", "file", "time", "device"]
    rows = [
        [
            *(each.name, each.data, percent(each.accuracy), each.split),
            *(f"{each.parameters:,}", size(each.bytes), spent(3600 * each.hours), each.device),
        ]
        for each in trained
    ]
    publish(
        "pareto", columns, rows, told="as each run measured it itself, n = 1 each", left=2, write=asked.write
    )


if __name__ == "__main__":
    main()
