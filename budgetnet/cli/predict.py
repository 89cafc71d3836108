"""`budgetnet predict`: what a trained model says of image files, as a table, CSV or submission."""

import csv
import io
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click

from budgetnet.cli.options import Asked
from budgetnet.cli.target import load_trained, not_from_scratch, trained
from budgetnet.console import harmless, percent, say, table
from budgetnet.modelfile import card
from budgetnet.run import write_whole
from budgetnet.trainer import Prediction, Trainer


@dataclass(frozen=True)
class Written:
    """How predictions are written: as table, csv or submission, classes by number or name, and where to."""

    layout: str
    indices: bool
    out: str | None


def predict_files(
    target: str,
    files: tuple[str, ...],
    how: Written,
    *,
    resolution: int | None,
    recipe: str | None,
    device: str | None,
) -> None:
    """Print or write what the model that `target` names says of the image files."""
    if how.indices and how.layout != "submission":
        raise ValueError("--indices says how a submission is written: add --format submission")
    trainer = Trainer(device, out=None, show=False)
    found = trained(target)
    plan = Asked().plan(recipe, before=found.settings) if recipe is not None else None
    model = load_trained(found, plan, trainer.device)
    known = card(model)
    for note in not_from_scratch(known.external if known is not None else ""):
        say(f"note: {note}", error=True)
    prediction = trainer.predict(model, files, resolution=resolution)
    if how.layout == "table" and how.out is None:
        table("", ("file", "class", "probability"), _rows(prediction), left=2)
        return
    text = _text(prediction, how)
    if how.out is None:
        # A program reads names as they are; a terminal would obey what is in them.
        click.echo(harmless(text) if sys.stdout.isatty() else text, nl=False)
        return
    try:
        write_whole(Path(how.out), text.encode())
    except OSError as error:
        raise ValueError(f"{how.out} cannot be written: {error.strerror}; choose another --out") from None
    say(f"{len(prediction.names):,} predictions are in {how.out}", error=True)


def _rows(prediction: Prediction) -> list[tuple[str, str, str]]:
    chances = [percent(chance) for chance in prediction.confidence.tolist()]
    return list(zip(prediction.names, prediction.named(), chances, strict=True))


def _text(prediction: Prediction, how: Written) -> str:
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    numbers = prediction.labels.tolist()
    if how.layout == "submission":
        lines.writerow(("Id", "Category"))
        answers = numbers if how.indices else prediction.named()
        lines.writerows(zip(_ids(prediction.names), answers, strict=True))
    elif how.layout == "csv":
        lines.writerow(("file", "class", "index", "probability"))
        chances = (f"{chance:.6f}" for chance in prediction.confidence.tolist())
        lines.writerows(zip(prediction.names, prediction.named(), numbers, chances, strict=True))
    else:
        for row in _rows(prediction):
            out.write("\t".join(row) + "\n")
    return out.getvalue()


def _ids(names: tuple[str, ...]) -> list[str]:
    """The files' names without folder and ending, each of which must be the only one of its kind."""
    stems = [Path(name).stem for name in names]
    twice = [stem for stem, times in Counter(stems).items() if times > 1]
    if twice:
        both = [name for name in names if Path(name).stem == twice[0]][:2]
        raise ValueError(
            f"a submission's Ids are the files' names without ending, and {' and '.join(both)} "
            "have the same: give one of them"
        )
    return stems
