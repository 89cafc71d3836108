"""`budgetnet evaluate`: a trained model measured on the images of a recipe that the user names."""

import json
from dataclasses import asdict, dataclass

import click

from budgetnet.cli.options import Asked
from budgetnet.cli.target import Trained, load_trained, trained
from budgetnet.console import percent, say, table
from budgetnet.data import Data, Split
from budgetnet.modelfile import card
from budgetnet.trainer import Evaluation, Trainer


@dataclass(frozen=True)
class Measured:
    """On which split and at which resolution in pixels, on which device, shown as JSON or as a table."""

    split: str
    resolution: int | None
    device: str | None
    as_json: bool


def evaluate_target(target: str, recipe: str | None, asked: Asked, how: Measured) -> None:
    """Print accuracy, top-5, loss and each class's recall of the model that `target` names."""
    trainer = Trainer(how.device, out=None, show=False)
    found = trained(target)
    if recipe is None:
        raise ValueError(
            "evaluate takes its images from a recipe's data(), and executes no recipe that is not named; "
            f"name it: budgetnet evaluate {target} {found.recipe_file or 'RECIPE'}"
        )
    plan = asked.plan(recipe, before=found.settings)
    model = load_trained(found, plan, trainer.device)
    data = plan.data()
    split = _split(data, how.split)
    known = card(model)
    if known is not None and known.classes and known.classes != data.classes:
        raise ValueError(
            f"{found.file} tells apart {_names(known.classes)}, and the data of {plan.path} have "
            f"{_names(data.classes)}; name the recipe that the model was trained by"
        )
    if not how.as_json:
        for note in _notes(found, split, how.split):
            say(f"note: {note}")
    measured = trainer.evaluate(model, split, classes=data.classes, resolution=how.resolution)
    if how.as_json:
        click.echo(json.dumps(asdict(measured), indent=2))
    else:
        _show(measured, how.split, split)


def _split(data: Data, name: str) -> Split:
    found = data.splits.get(name)
    if found is None:
        has = ", ".join(key for key in data.splits if key != "unlabelled")
        raise ValueError(f"{data.name} has no {name} split; choose --split from {has}")
    return found


def _notes(found: Trained, split: Split, name: str) -> list[str]:
    """What makes the figures other than they seem."""
    record = found.run.record if found.run is not None else {}
    before = record.get("data", {}).get("fingerprints", {})
    if not isinstance(before, dict) or before.get(name) in (None, split.fingerprint()):
        return []
    return [
        f"these {name} images are not those of the run: some of them may have been trained on"
        if name != "train"
        else "these training images are not those of the run"
    ]


def _names(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    return f"{len(classes)} classes ({shown})"


def _show(measured: Evaluation, name: str, split: Split) -> None:
    say(f"{name}: {measured}")
    rows = []
    for k, label in enumerate(measured.classes):
        others = [(times, j) for j, times in enumerate(measured.confusion[k]) if j != k and times]
        most = max(others, default=None, key=lambda pair: (pair[0], -pair[1]))
        taken = "" if most is None else f"{measured.classes[most[1]]} ({most[0]})"
        rows.append((label, f"{sum(measured.confusion[k]):,}", percent(measured.per_class[k]), taken))
    table("", ("class", "images", "recognised", "mostly taken for"), rows)
