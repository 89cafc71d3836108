"""Trains the STL-10 recipes and prints their figures, tested plainly and as the original project did.

    python benchmarks/stl10.py --data DIR --held-out held_out_1000.txt

The original reports 84.01 % on augmented validation views normalised by the batch; a plain test of whole
images in evaluation mode is another distribution, so both are printed for each model.

The full recipes on one GPU are 36 million image views each. On a CPU:

    ... --recipes fixres_stl10 --scale 0.0015 --precision bf16 --views 1
"""

import argparse
from dataclasses import replace

from report import spent, started, training_arguments

from budgetnet import Run, Test
from budgetnet.console import table
from budgetnet.plan import read_plan
from budgetnet.text import percent


def arguments() -> argparse.Namespace:
    parser = training_arguments(__doc__, "stl10_binary")
    parser.add_argument("--held-out", default="1000", help="a number, or a file of indices, one a line")
    parser.add_argument("--recipes", nargs="+", default=["fixres_stl10", "fixres_stl10_seed"])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--set", action="append", default=[], help="recipe.batch_size=32 and the like")
    parser.add_argument("--views", type=int, default=20, help="of each image in the published way of testing")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    trainer = started(asked)
    rows = []
    images = 0
    for name in asked.recipes:
        plan = read_plan(name).changed(f"data.held_out={asked.held_out}").changed(f"recipe.seed={asked.seed}")
        plan = replace(plan, recipe=plan.recipe.scaled(asked.scale))
        for setting in asked.set:
            plan = plan.changed(setting)
        recipe = plan.recipe
        model, data = plan.model(), plan.data()
        if data.val is None:
            raise SystemExit("the recipe's data() should hold images out, and --held-out gives none")
        images = len(data.val)
        run = Run.new(asked.out, plan.name)
        last_of_first = None
        at = {phase.last_resolution for phase in recipe.phases}
        augmented = Test(augment=recipe.phases[-1].augment, views=asked.views, batch_statistics=True)
        for epoch in trainer.epochs(model, data, recipe, run):
            if epoch.phase == 1 and epoch.epoch == epoch.epochs:
                last_of_first = {
                    r: trainer.evaluate(model, data.val, classes=data.classes, resolution=r).accuracy
                    for r in at
                }
        for r in sorted(at):
            plain = trainer.evaluate(model, data.val, resolution=r, test=Test())
            views = trainer.evaluate(model, data.val, resolution=r, test=augmented, batch_size=64)
            first = percent(last_of_first[r]) if last_of_first else "-"
            seconds = spent(run.result["seconds"])
            rows.append([name, f"{r}", first, percent(plain.accuracy), percent(views.accuracy), seconds])
    table(
        ["recipe", "tested at px", "after phase 1", "at the end", "at the end, as published", "training"],
        rows,
        title=f"{images:,} validation images, seed {asked.seed}, n = 1 run each",
    )


if __name__ == "__main__":
    main()
