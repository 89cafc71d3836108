"""`budgetnet compare --paired`: runs measured on the very same images, each against the first."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from budgetnet.cli.asked import Asked
from budgetnet.cli.trained import load_trained, trained
from budgetnet.metrics import Paired
from budgetnet.trainer import Evaluation, Trainer


@dataclass(frozen=True)
class Runs:
    """Runs measured on the same split: the figures of each by its name, and each but the first against it."""

    split: str
    figures: Mapping[str, Evaluation]
    against: Mapping[str, Paired]
    notes: Sequence[str]

    def __str__(self) -> str:
        first = next(iter(self.figures))
        lines = [f"{first} on {self.split}: {self.figures[first]}"]
        lines += [f"{name} less {first}: {each}" for name, each in self.against.items()]
        return "\n".join([*(f"note: {note}" for note in self.notes), *lines])

    def json(self) -> dict[str, Any]:
        """The same as plain values."""
        shown = ("images", "difference", "interval", "p")
        return {
            "split": self.split,
            "notes": list(self.notes),
            "runs": {name: each.json() for name, each in self.figures.items()},
            "less": next(iter(self.figures)),
            "paired": {
                name: {**asdict(each), **{what: getattr(each, what) for what in shown}}
                for name, each in self.against.items()
            },
        }


def paired_runs(names: Sequence[str], recipe: str, split: str, root: str | None, device: str | None) -> Runs:
    """What McNemar's test says of each run against the first, on the images of a recipe that is named."""
    if len(names) < 2:
        raise ValueError("--paired compares runs on the same images: name two or more")
    trainer = Trainer(device, out=None, show=False)
    models = [trained(name) for name in names]
    plans = [model.plan(Asked(root), recipe) for model in models]
    images = plans[0].data().splits.get(split)
    if images is None:
        raise ValueError(f"the data of {plans[0].path} have no {split} split; choose another --split")
    figures = [
        trainer.evaluate(load_trained(model, plan, trainer.device), images)
        for model, plan in zip(models, plans, strict=True)
    ]
    doubts = [
        doubt
        for name, model in zip(names, models, strict=True)
        for doubt in model.flattered(images, split, whose=name)
    ]
    others = zip(names[1:], figures[1:], strict=True)
    against = {name: other.against(figures[0]) for name, other in others}
    return Runs(split, dict(zip(names, figures, strict=True)), against, doubts)
