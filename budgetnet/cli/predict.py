"""`budgetnet predict`: what a trained model says of image files, as a table, CSV or submission."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from budgetnet.cli.csv import danger, encoded, line, sheet
from budgetnet.cli.failures import SKIPPED
from budgetnet.cli.options import Asked, Written
from budgetnet.cli.trained import load_trained, not_from_scratch, trained
from budgetnet.console import say, table
from budgetnet.data import UNREADABLE, Finding, sentences
from budgetnet.files import check_writable, write_whole
from budgetnet.modelfile import card
from budgetnet.text import harmless, inline, percent
from budgetnet.trainer import Prediction, Trainer, image_files


def predict_files(
    target: str,
    files: tuple[str, ...],
    how: Written,
    *,
    resolution: int | None,
    recipe: str | None,
    device: str | None,
    skip: bool = False,
) -> int:
    """Print or write what the model that `target` names says of the image files; return the exit code.

    All that can be known beforehand is refused beforehand: files that are not there, Ids that come twice, a
    file that cannot be written.
    """
    if how.indices and how.layout != "submission":
        raise ValueError("--indices says how a submission is written: add --format submission")
    if how.as_json and how.layout != "table":
        raise ValueError(f"--json and --format {how.layout} ask for two forms: give one of them")
    if how.out is not None:
        check_writable(Path(how.out))
    trainer = Trainer(device, out=None, show=False)
    loaded = trained(target, trust=how.trust)
    listed = image_files(files)
    if how.out is not None and os.path.realpath(how.out) in {os.path.realpath(path) for path in listed.paths}:
        raise ValueError(
            f"--out should be a new file, not {how.out}, which is one of the images: name another"
        )
    if how.layout == "submission":
        _check_ids([str(path) for path in listed.paths])
    plan = Asked().plan(recipe, before=loaded.settings) if recipe is not None else None
    model = load_trained(loaded, plan, trainer.device)
    known = card(model)
    for note in (*not_from_scratch(known.external if known is not None else ""), *sentences(listed.findings)):
        say(f"note: {note}", error=True)
    prediction = trainer.predict(
        model, listed.paths, resolution=resolution, unreadable="skip" if skip else "refuse"
    )
    _show(prediction, how)
    return _told([finding for finding in prediction.findings if finding.kind in UNREADABLE])


def _show(prediction: Prediction, how: Written) -> None:
    if how.layout == "table" and how.out is None and not how.as_json:
        table(("file", "class", "probability"), _rows(prediction), left=2)
        return
    text, notes = _text(prediction, how)
    for note in notes:
        say(f"note: {note}", error=True)
    if how.out is None:
        _print(text)
        return
    try:
        write_whole(Path(how.out), encoded(text))
    except OSError as error:
        # They took their time: who asked may still have them from here.
        _print(text)
        raise ValueError(
            f"{how.out} cannot be written: {error.strerror}; the predictions were printed instead"
        ) from None
    say(f"{len(prediction.names):,} predictions are in {how.out}", error=True)


def _print(text: str) -> None:
    """Write text to standard output: to a program as it is, in UTF-8, to a terminal harmless."""
    # A program reads names as they are, and click would take escape sequences out of them.
    click.echo(harmless(text) if sys.stdout.isatty() else encoded(text), nl=False)


def _told(unread: Sequence[Finding]) -> int:
    """Name the images without a row, each with the reason, and return the exit code that says so."""
    if not unread:
        return 0
    for finding in unread:
        say(f"left out: {finding}", error=True)
    images = "image that cannot be read has" if len(unread) == 1 else "images that cannot be read have"
    say(f"{len(unread):,} {images} no row", error=True)
    return SKIPPED


def _rows(prediction: Prediction) -> list[tuple[str, str, str]]:
    chances = [percent(chance) for chance in prediction.confidence.tolist()]
    return list(zip(prediction.names, prediction.named(), chances, strict=True))


def _text(prediction: Prediction, how: Written) -> tuple[str, list[str]]:
    """Return what is to be written, and notes on names that others might misread."""
    labels, confidence = prediction.labels.tolist(), prediction.confidence.tolist()
    if how.as_json:
        keys = ("file", "class", "index", "probability")
        each = zip(prediction.names, prediction.named(), labels, confidence, strict=True)
        left_out = [str(finding) for finding in prediction.findings if finding.kind in UNREADABLE]
        entries = {"predictions": [dict(zip(keys, one)) for one in each], "left_out": left_out}
        return json.dumps(entries, indent=2) + "\n", []
    numbers = list(map(str, labels))
    if how.layout == "submission":
        answers = numbers if how.indices else prediction.named()
        rows = list(zip((Path(name).stem for name in prediction.names), answers, strict=True))
        return "".join(map(line, [("Id", "Category"), *rows])), danger(rows, kept=True)
    if how.layout == "csv":
        chances = (f"{chance:.6f}" for chance in confidence)
        cells = list(zip(prediction.names, prediction.named(), numbers, chances, strict=True))
        safe = [(sheet(name, path=True), sheet(said), *rest) for name, said, *rest in cells]
        head = ("file", "class", "index", "probability")
        return "".join(map(line, [head, *safe])), danger(cells, kept=False)
    return "".join("\t".join(map(inline, row)) + "\n" for row in _rows(prediction)), []


def _check_ids(names: Sequence[str]) -> None:
    """Refuse files whose names without folder and ending are not the only ones of their kind."""
    first: dict[bytes, str] = {}
    for name in names:
        # As they are written, where what is no UTF-8 may look like another name.
        identity = encoded(Path(name).stem)
        if identity in first:
            other = first[identity]
            raise ValueError(
                f"a submission's Ids are the files' names without ending, and {other} and {name} "
                "have the same: give one of them"
            )
        first[identity] = name
