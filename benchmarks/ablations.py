"""Takes the pieces of stl10_afternoon's recipe away, one at a time, on as many views: what does each bring?

    python benchmarks/ablations.py --data DIR --held-out held_out_1000.txt [--write]

The recipe is its first phase at --passes over the 4,000 images (10: 40,000 views, some four minutes of a core
with bf16, so that all cells are an hour and a half), in one learning rate down to zero: its network, a ramp
from 32 to 64 pixels, TrivialAugment, cutmix, smoothing, an average of the weights, SGD, bf16, tested at 80
pixels. Each other line differs in one piece. The last two begin from the recipe's own weights: tested at the
size that they ended to learn at, and with the FixRes fix, two passes of the classifier and the norms'
statistics on the test's view. What helps a training this short is not what helps a long one: augmentation
and averages cost at first. Each cell is a file in --out and is not trained again.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from report import machine, publish, spent, started, training_arguments

from budgetnet import (
    SGD,
    CenterCrop,
    Cosine,
    Cutmix,
    Data,
    Group,
    Groups,
    LabelSmoothingLoss,
    Muon,
    Phase,
    Recipe,
    Split,
    Test,
    Trainer,
    TrivialAugmentWide,
    Warmup,
    load,
    read_plan,
)
from budgetnet.console import say
from budgetnet.plan import Plan
from budgetnet.text import percent

Change = Callable[[Recipe], Recipe]
BASE = "the recipe"


def arguments() -> argparse.Namespace:
    parser = training_arguments(__doc__, "stl10_binary")
    parser.add_argument("--held-out", default="1000", help="a number, or a file of indices, one a line")
    parser.add_argument("--passes", type=float, default=10, help="over the training images, of each cell")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[*PIECES, *AFTERWARDS], default=None)
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    parser.set_defaults(out="runs/ablations", precision="bf16")
    return parser.parse_args()


def in_phase(**changes: Any) -> Change:
    return lambda recipe: replace(recipe, phases=[replace(recipe.phases[0], **changes)])


def without(step: type) -> Change:
    """The recipe without the steps of a kind among its views."""

    def change(recipe: Recipe) -> Recipe:
        kept = [each for each in recipe.phases[0].augment if not isinstance(each, step)]
        return in_phase(augment=kept)(recipe)

    return change


def with_muon(recipe: Recipe) -> Recipe:
    """Muon for the filters of all blocks, SGD at its own rate for the norms, the stem and the head."""
    rate = recipe.phases[0].lr
    others = [Group(name, SGD(weight_decay=5e-4), lr=rate) for name in ("*.norm*", "stem*", "head*")]
    # Its decay is per unit of rate too: that of the recipe at a fifth of its rate.
    optimizer = Groups(others, rest=Muon(weight_decay=5 * 5e-4))
    return replace(in_phase(lr=Warmup(Cosine(0.02), epochs=1))(recipe), optimizer=optimizer)


PIECES: dict[str, Change] = {
    BASE: lambda recipe: recipe,
    "without TrivialAugment": without(TrivialAugmentWide),
    "without cutmix": without(Cutmix),
    "without smoothing": lambda recipe: replace(recipe, loss=LabelSmoothingLoss(0.0)),
    "without the average": lambda recipe: replace(recipe, average=None, keep="last"),
    "48 px in place of the ramp": in_phase(resolution=48),
    "64 px in place of the ramp": in_phase(resolution=64),
    "Muon in place of SGD": with_muon,
    "float32 in place of bf16": lambda recipe: recipe,
}
"""The recipe of each line that is trained from its beginning."""


def fix(recipe: Recipe) -> Recipe:
    """The paper's fix at the size of the test, in two passes."""
    learn = recipe.phases[0]
    resolution = learn.test.at(learn.last_resolution)[1]
    phase = Phase(
        2,
        resolution,
        Cosine(0.01),
        name="fix",
        trains=["head"],
        calibrates=["*"],
        augment=[CenterCrop()],
        test=learn.test,
    )
    return replace(recipe, phases=[phase], average=None, keep="last")


AFTERWARDS = ("tested at 64 px", "with the FixRes fix")
"""The lines that begin from the weights of the recipe."""


def base(plan: Plan, passes: float) -> Recipe:
    """The first phase over so many passes, down to a rate of zero."""
    learn = replace(plan.recipe.phases[0], lr=Warmup(Cosine(0.1), epochs=1))
    return replace(plan.recipe, phases=[learn.scaled(passes / (learn.epochs * learn.views))])


def trained(name: str, seed: int, plan: Plan, data: Data, asked: argparse.Namespace) -> dict[str, Any]:
    """The figures of a cell, from its file or measured now."""
    file = Path(asked.out) / f"{name.replace(' ', '-')}-{asked.passes:g}-{seed}.json"
    if file.exists():
        held: dict[str, Any] = json.loads(file.read_text())
        return held
    precision: Any = "float32" if name.startswith("float32") else asked.precision
    trainer = Trainer(asked.device, precision=precision, out=asked.out, show=False)
    recipe = replace(base(plan, asked.passes), seed=seed)
    plan = plan.changed(f"recipe.seed={seed}")
    if name in PIECES:
        run = trainer.fit(plan.model(), data, PIECES[name](recipe), name="ablation")
    else:
        begun = trained(BASE, seed, plan, data, asked)["folder"]
        if name == AFTERWARDS[0]:
            size = recipe.phases[0].last_resolution
            found = trainer.evaluate(load(begun), val(data), test=Test(size, size), classes=data.classes)
            return kept(file, {"accuracy": found.accuracy, "seconds": 0.0, "views": 0, "folder": begun})
        run = trainer.fit(plan.model(), data, fix(recipe), name="ablation", after=begun)
    views = sum(epoch.images for epoch in run.history)
    figures = {"accuracy": run.result["val_accuracy"], "seconds": run.result["seconds"], "views": views}
    return kept(file, {**figures, "folder": str(run.folder)})


def val(data: Data) -> Split:
    if data.val is None:
        raise SystemExit("the recipe's data() should hold images out, and --held-out gives none")
    return data.val


def kept(file: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """The figures, written into the cell's file."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(figures))
    part.rename(file)
    return figures


def rows(cells: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """One line for each piece: mean, spread, and the mean of its differences to the recipe, seed by seed."""
    lines = []
    for name, figures in cells.items():
        found = [each["accuracy"] for each in figures]
        spread = f"{100 * statistics.stdev(found):.2f}" if len(found) > 1 else "-"
        pairs = zip(found, (each["accuracy"] for each in cells.get(BASE, [])))
        differences = [100 * (one - other) for one, other in pairs]
        to_it = f"{statistics.fmean(differences):+.2f}" if differences and name != BASE else ""
        seconds = statistics.fmean(each["seconds"] for each in figures)
        views = f"{statistics.fmean(each['views'] for each in figures):,.0f}"
        lines.append([name, percent(statistics.fmean(found)), spread, str(len(found)), to_it])
        lines[-1] += [views, spent(seconds)]
    return lines


def main() -> None:
    asked = arguments()
    trainer = started(asked)
    Path(asked.out).mkdir(parents=True, exist_ok=True)
    plan = read_plan("stl10_afternoon").changed(f"data.held_out={asked.held_out}")
    data = plan.data()
    images = len(val(data))
    cells: dict[str, list[dict[str, Any]]] = {}
    for seed in range(asked.seed, asked.seed + asked.seeds):
        for name in asked.only or [*PIECES, *AFTERWARDS]:
            cells.setdefault(name, []).append(trained(name, seed, plan, data, asked))
            say(f"{name}, seed {seed}: {percent(cells[name][-1]['accuracy'])}")
    columns = ["recipe", "accuracy", "sd", "n", "to the recipe", "views", "a run"]
    told = f"{images:,} held-out images, {asked.passes:g} passes, {trainer.device}, {machine()}"
    publish("ablations", columns, rows(cells), told=told, write=asked.write)


if __name__ == "__main__":
    main()
