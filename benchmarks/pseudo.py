"""Compares pseudo-labels with labels alone, from one and the same first phase and over as many steps.

    python benchmarks/pseudo.py --data DIR --network convnet --resolution 32 --epochs 10 --precision float32

The first phase of `pseudo_cifar10` is trained on the labels once. Then, each from those weights: its second
phase, with what the model is sure of, and the same phase with as many steps on the labels alone. The three
are tested on the test images, which nothing here is chosen by; the pseudo-labels are compared with the true
ones, which only this comparison looks at.
"""

import argparse
from dataclasses import replace

from report import started, training_arguments

from budgetnet import Phase, PseudoLabels, Run, cifar10
from budgetnet.console import say, table
from budgetnet.plan import read_plan
from budgetnet.pseudo import read_csv
from budgetnet.text import percent


def arguments() -> argparse.Namespace:
    parser = training_arguments(__doc__, "cifar-10-batches-bin")
    parser.add_argument("--network", default="b0", help="b0 to b4, or convnet")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=30, help="of the second phase")
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--temperature", type=float, default=1.0)
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    trainer = started(asked)
    plan = read_plan("pseudo_cifar10").changed(f"model.network={asked.network}")
    plan = plan.changed(f"recipe.seed={asked.seed}")
    data = plan.data()
    if data.unlabelled is None:
        raise SystemExit("the recipe's data() should leave images unlabelled, and leaves none")

    def fitted(name: str, phase: Phase, after: Run | None = None) -> Run:
        recipe = replace(plan.recipe, phases=[replace(phase, resolution=asked.resolution)])
        folder = after.folder if after is not None else None
        return trainer.fit(plan.model(), data, recipe, name=f"pseudo-{name}", after=folder)

    labels = fitted("labels", plan.recipe.phases[0])
    sure = PseudoLabels(asked.threshold, asked.temperature)
    second = replace(plan.recipe.phases[1], epochs=asked.epochs, pseudo=sure)
    pseudo = fitted("rounds", second, after=labels)
    views = 1 + pseudo.history[-1].pseudo_images / len(data.train)
    alone = fitted("alone", replace(second, pseudo=None, views=views), after=labels)
    assert pseudo.folder is not None
    kept = read_csv(pseudo.folder / "pseudo-labels-1.csv", data.unlabelled, data.classes)
    whole = cifar10(asked.data, held_out=0).train
    truth = dict(zip(whole.indices.tolist(), whole.labels.tolist(), strict=True))
    numbers = data.unlabelled.indices[kept.positions].tolist()
    right = sum(truth[number] == label for number, label in zip(numbers, kept.labels.tolist(), strict=True))
    rows = [
        (name, percent(run.result["val_accuracy"]), percent(run.result["test_accuracy"]), str(steps(run)))
        for name, run in (
            ("the labels", labels),
            ("then pseudo-labels", pseudo),
            ("then labels alone", alone),
        )
    ]
    images = f"{len(data.val or ()):,} validation and {len(data.test or ()):,} test images"
    title = f"{images}, seed {asked.seed}, n = 1"
    table(["trained on", "validation", "test", "steps"], rows, title=title)
    say(f"{len(kept):,} pseudo-labels, {percent(right / max(1, len(kept)))} of them right")


def steps(run: Run) -> int:
    """How many steps the last session of a run took."""
    return sum(epoch.steps for epoch in run.history if epoch.session == run.history[-1].session)


if __name__ == "__main__":
    main()
