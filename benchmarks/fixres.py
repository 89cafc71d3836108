"""Compares ways to fix a network at another resolution than it learnt at, from one and the same first phase.

    python benchmarks/fixres.py --data DIR --held-out held_out_1000.txt

The first phase of `fixres_stl10` is trained once, at 70 pixels. Then, each from those weights: nothing; all
batch-norm statistics measured anew at 120 pixels, in one epoch without learning; the classifier and the last
norm, as the FixRes paper does (`fixres_stl10_paper`); and the whole network again (`fixres_stl10`). Each
result is tested plainly over a range of resolutions. On a CPU: --scale 0.0013 --fix-scale 0.02 --precision
bf16
"""

import argparse
from dataclasses import replace

from report import spent, started, training_arguments

from budgetnet import CenterCrop, Data, Phase, Recipe, Run, Test, Trainer
from budgetnet.console import say, table
from budgetnet.plan import Plan, read_plan
from budgetnet.text import percent


def arguments() -> argparse.Namespace:
    parser = training_arguments(__doc__, "stl10_binary")
    parser.add_argument("--held-out", default="1000", help="a number, or a file of indices, one a line")
    parser.add_argument("--scale", type=float, default=1.0, help="of the first phase and the whole network's")
    parser.add_argument("--fix-scale", type=float, default=1.0, help="of the classifier's phase")
    parser.add_argument("--batch-size", type=int, default=None, help="of every phase")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[70, 96, 120, 144])
    return parser.parse_args()


def ways(full: Plan, paper: Plan, asked: argparse.Namespace) -> dict[str, Phase | None]:
    """What follows the first phase, by name."""
    resolution = full.recipe.phases[-1].last_resolution
    calibrate = Phase(
        1, resolution, trains=(), calibrates=["*"], augment=[CenterCrop()], batch_size=64, name="calibrate"
    )
    return {
        "nothing": None,
        "statistics": calibrate,
        "classifier and last norm": paper.recipe.phases[-1].scaled(asked.fix_scale),
        "whole network": full.recipe.phases[-1].scaled(asked.scale),
    }


def main() -> None:
    asked = arguments()
    trainer = started(asked)
    full, paper = read_plan("fixres_stl10"), read_plan("fixres_stl10_paper")
    data = full.changed(f"data.held_out={asked.held_out}").data()
    recipe = replace(full.recipe, phases=[full.recipe.phases[0].scaled(asked.scale)], seed=asked.seed)
    learnt = trainer.fit(full.model(), data, sized(recipe, asked.batch_size), name="fixres-learn")
    rows = []
    for name, phase in ways(full, paper, asked).items():
        run = learnt
        if phase is not None:
            then = replace(full.recipe, phases=[phase], seed=asked.seed)
            run = trainer.fit(
                full.model(),
                data,
                sized(then, asked.batch_size),
                name=f"fixres-{name[:5]}",
                after=learnt.folder,
            )
        seconds = run.result["seconds"] if phase is not None else 0.0
        rows.append([name, *tested(trainer, run, data, asked.resolutions), spent(seconds)])
    count = len(data.val) if data.val is not None else 0
    table(
        ["what follows the first phase", *(f"{r} px" for r in asked.resolutions), "took"],
        rows,
        title=f"{count:,} validation images, tested plainly at each resolution, seed {asked.seed}, n = 1",
    )
    say(f"the first phase took {spent(learnt.result['seconds'])}")


def sized(recipe: Recipe, batch_size: int | None) -> Recipe:
    """The recipe with one batch size in all phases."""
    if batch_size is None:
        return recipe
    return replace(recipe, phases=[replace(phase, batch_size=batch_size) for phase in recipe.phases])


def tested(trainer: Trainer, run: Run, data: Data, resolutions: list[int]) -> list[str]:
    """The accuracy on the validation images at each resolution."""
    if run.model is None or data.val is None:
        raise SystemExit("the recipe's data() should hold images out, and --held-out gives none")
    return [
        percent(trainer.evaluate(run.model, data.val, resolution=r, test=Test(), batch_size=64).accuracy)
        for r in resolutions
    ]


if __name__ == "__main__":
    main()
