"""Accuracy of fixres_stl10_light over test resolutions, before and after the fix, by both ways of testing.

    python benchmarks/fixres_curve.py --data DIR --held-out held_out_1000.txt [--scale 0.0023] [--write]

The original project says that its fix brought ten points: from 74.07 %, of random crops at 70 pixels, to
84.01 %, of whole images at 120, both turned, jittered and normalised by the batch. Here each network is
tested over a range of resolutions in three readings: plain (whole images, evaluation mode, each once), and as
the project tested, on its random crops and on whole images. For each seed the first phase is trained once;
from its weights the project's second phase trains the whole network, and the paper's
(https://arxiv.org/abs/1906.06423) the classifier and the last norm's statistics, on as many views. Each
training is a folder and each curve a file in --out, and what is there is not done again. On a CPU:
--precision bf16 --batch-size 32 --scale 0.0023, which is 83,000 views and some 25 minutes a seed.
"""

import argparse
import csv
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fixres import sized
from report import machine, publish, started, training_arguments
from torch import nn

from budgetnet import SGD, CenterCrop, Cosine, Crop, Data, Phase, Split, Test, Trainer, load, read_plan
from budgetnet.console import say
from budgetnet.plan import Plan
from budgetnet.reporting import blank, write_figure
from budgetnet.text import percent

BEFORE = "nothing"
READINGS = ("plain", "crops", "whole")
"""Plain images; the project's random crops; its views without the crop. The last two use batch statistics."""


@dataclass(frozen=True)
class Point:
    """The accuracy of one network, by one reading, at one resolution in pixels."""

    seed: int
    after: str
    reading: str
    resolution: int
    accuracy: float


def arguments() -> argparse.Namespace:
    parser = training_arguments(__doc__, "stl10_binary")
    parser.add_argument("--held-out", default="1000", help="a number, or a file of indices, one a line")
    parser.add_argument("--scale", type=float, default=1.0, help="of both phases")
    parser.add_argument("--batch-size", type=int, default=None, help="of all phases")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--views", type=int, default=2, help="of each image in the project's readings (its: 20)"
    )
    parser.add_argument("--resolutions", type=int, nargs="+", default=[56, 70, 84, 96, 108, 120, 136])
    parser.add_argument("--plot", default=None, help="SVG or PNG; fixres_curve.svg in --out if left out")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    parser.set_defaults(out="runs/fixres_curve")
    return parser.parse_args()


def fixes(plan: Plan, scale: float) -> dict[str, Phase]:
    """The second phase of the project, and that of the paper over as many epochs of one view."""
    whole = plan.recipe.phases[1].scaled(scale)
    size = whole.last_resolution
    paper = Phase(
        max(1, round(whole.epochs * whole.views)),
        size,
        Cosine(1e-2),
        name="fix",
        optimizer=SGD(nesterov=False, weight_decay=1e-4),
        batch_size=whole.batch_size,
        trains=["head"],
        calibrates=[last_norm(plan.model())],
        augment=[CenterCrop(224 / 256)],
        test=Test(resize=size * 256 // 224, crop=size),
    )
    return {"classifier and last norm": paper, "whole network": whole}


def last_norm(model: nn.Module) -> str:
    """The last norm of the last block's main path."""
    modules = dict(model.named_modules())
    names: list[str] = [name for name in modules if isinstance(modules[name], nn.BatchNorm2d)]
    *_, last = (name for name in names if "shortcut" not in name)
    return last


def trained(seed: int, plan: Plan, data: Data, trainer: Trainer, asked: argparse.Namespace) -> dict[str, str]:
    """The folders of a seed's networks, by what followed the first phase; those that are missing are made."""
    file = Path(asked.out) / f"folders-{seed}.json"
    folders: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    plan = plan.changed(f"recipe.seed={seed}")
    phases = {BEFORE: plan.recipe.phases[0].scaled(asked.scale), **fixes(plan, asked.scale)}
    for name, phase in phases.items():
        if name not in folders:
            recipe = sized(replace(plan.recipe, phases=[phase]), asked.batch_size)
            after = folders.get(BEFORE)
            run = trainer.fit(plan.model(), data, recipe, name=f"fixres-{name[:5]}", after=after)
            folders[name] = str(run.folder)
            file.write_text(json.dumps(folders))
    return folders


def measured(
    trainer: Trainer, model: nn.Module, val: Split, augment: Sequence[Any], asked: argparse.Namespace
) -> list[tuple[str, int, float]]:
    """The reading, resolution and accuracy of each test of a network."""
    uncut = [each for each in augment if not isinstance(each, Crop)]
    tests = {"plain": Test()}
    for name, steps in (("crops", augment), ("whole", uncut)):
        tests[name] = Test(augment=steps, views=asked.views, batch_statistics=True)
    found = []
    for reading in READINGS:
        for size in asked.resolutions:
            test = replace(tests[reading], resize=size, crop=size) if reading == "plain" else tests[reading]
            result = trainer.evaluate(model, val, resolution=size, test=test, batch_size=64)
            found.append((reading, size, result.accuracy))
    return found


def points(trainer: Trainer, asked: argparse.Namespace) -> list[Point]:
    """All curves of all seeds, each from its file or measured now."""
    plan = read_plan("fixres_stl10_light").changed(f"data.held_out={asked.held_out}")
    data, kept = plan.data(), []
    if data.val is None:
        raise SystemExit("the recipe's data() should hold images out, and --held-out gives none")
    for seed in range(asked.seed, asked.seed + asked.seeds):
        for name, folder in trained(seed, plan, data, trainer, asked).items():
            file = Path(asked.out) / f"curve-{Path(folder).name}.json"
            if not file.exists():
                augment = plan.recipe.phases[0].augment
                rows = measured(trainer, load(folder), data.val, augment, asked)
                file.write_text(json.dumps(rows))
            kept += [Point(seed, name, *row) for row in json.loads(file.read_text())]
            say(f"seed {seed}, after {name}: in {file}")
    return kept


def mean(found: list[Point], after: str, reading: str, resolution: int) -> tuple[float, float]:
    """The mean accuracy over the seeds, and its standard deviation (0 of one seed)."""
    wanted = (after, reading, resolution)
    values = [each.accuracy for each in found if (each.after, each.reading, each.resolution) == wanted]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def draw(found: list[Point], path: Path) -> None:
    """A panel for each reading, a line for each network."""
    figure = blank(11, 4)
    sizes = sorted({each.resolution for each in found})
    for axes, reading in zip(figure.subplots(1, len(READINGS), sharey=True), READINGS, strict=True):
        for after in dict.fromkeys(each.after for each in found):
            means = [mean(found, after, reading, size) for size in sizes]
            heights, spreads = zip(*means, strict=True)
            axes.errorbar(
                sizes,
                [100 * each for each in heights],
                yerr=[100 * each for each in spreads],
                marker="o",
                markersize=3,
                label=f"then {after}",
            )
        axes.set_title(reading)
        axes.set_xlabel("resolution (pixels)")
        axes.axvline(70, color="0.7", linestyle=":", linewidth=1)
    figure.axes[0].set_ylabel("accuracy (%)")
    figure.axes[0].legend(frameon=False, fontsize="small")
    write_figure(figure, path)


def rows(found: list[Point]) -> list[list[str]]:
    """A line for each network and reading."""
    sizes = sorted({each.resolution for each in found})
    networks = list(dict.fromkeys(each.after for each in found))
    lines = []
    for after in networks:
        for reading in READINGS:
            cells = [mean(found, after, reading, size) for size in sizes]
            lines.append([after, reading, *(f"{percent(one)} ({100 * sd:.2f})" for one, sd in cells)])
    return lines


def claims(found: list[Point]) -> list[str]:
    """What each fix brought: best plain to best plain, and as the project compared."""
    sizes = sorted({each.resolution for each in found})
    best = {
        after: max(mean(found, after, "plain", size)[0] for size in sizes)
        for after in dict.fromkeys(each.after for each in found)
    }
    said = []
    for after in best:
        if after == BEFORE or not {70, 120} <= set(sizes):
            continue
        asked = mean(found, after, "whole", 120)[0] - mean(found, BEFORE, "crops", 70)[0]
        at_120 = mean(found, after, "plain", 120)[0] - mean(found, BEFORE, "plain", 120)[0]
        gain = 100 * (best[after] - best[BEFORE])
        said.append(
            f"{after}: {100 * asked:+.2f} points as the project compares (whole images at 120 px after, "
            f"crops at 70 px before), plainly {100 * at_120:+.2f} at 120 px and {gain:+.2f} best to best"
        )
    return said


def main() -> None:
    asked = arguments()
    trainer = started(asked)
    out = Path(asked.out)
    out.mkdir(parents=True, exist_ok=True)
    blank(11, 4)  # Where nothing can be drawn, say so before an hour of training.
    found = points(trainer, asked)
    with (out / "fixres_curve.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["seed", "after", "reading", "resolution", "accuracy"])
        table.writerows(
            [each.seed, each.after, each.reading, each.resolution, each.accuracy] for each in found
        )
    draw(found, Path(asked.plot) if asked.plot else out / "fixres_curve.svg")
    sizes = sorted({each.resolution for each in found})
    told = f"mean (sd) of {asked.seeds} seeds, scale {asked.scale:g}, {machine()}; {'; '.join(claims(found))}"
    columns = ["then", "reading", *(f"{size} px" for size in sizes)]
    publish("fixres-curve", columns, rows(found), told=told, left=2, write=asked.write)


if __name__ == "__main__":
    main()
