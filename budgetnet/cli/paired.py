"""`budgetnet compare --paired`: runs measured on the very same images, each against the first."""

from collections.abc import Sequence

from budgetnet.cli.asked import Asked
from budgetnet.cli.trained import load_trained, trained
from budgetnet.trainer import Trainer


def paired_lines(
    names: Sequence[str], recipe: str, split: str, root: str | None, device: str | None
) -> list[str]:
    """What McNemar's test says of each run against the first, on the images of a recipe that is named."""
    if len(names) < 2:
        raise ValueError("--paired compares runs on the same images: name two or more")
    trainer = Trainer(device, out=None, show=False)
    models = [trained(name) for name in names]
    plans = [model.plan(Asked(root), recipe) for model in models]
    images = plans[0].data().splits.get(split)
    if images is None:
        raise ValueError(f"the data of {plans[0].path} have no {split} split; choose another --split")
    first, *others = (
        trainer.evaluate(load_trained(model, plan, trainer.device), images)
        for model, plan in zip(models, plans, strict=True)
    )
    doubts = [
        f"note: {doubt}"
        for name, model in zip(names, models, strict=True)
        for doubt in model.flattered(images, split, whose=name)
    ]
    compared = [
        f"{name} less {names[0]}: {other.against(first)}"
        for name, other in zip(names[1:], others, strict=True)
    ]
    return [*doubts, f"{names[0]} on {split}: {first}", *compared]
