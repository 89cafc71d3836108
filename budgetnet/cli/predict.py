"""`budgetnet predict`: what a trained model says of image files, as a table, CSV or submission."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from torch import nn

from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import Predicting, Written
from budgetnet.cli.failures import SKIPPED
from budgetnet.cli.sample import filled, matched, read_sample
from budgetnet.cli.trained import Trained, load_trained, not_from_scratch, trained
from budgetnet.console import say, table
from budgetnet.data import UNREADABLE, Finding, sentences
from budgetnet.files import check_writable, danger, encoded, line, sheet, write_whole
from budgetnet.modelfile import Card, card
from budgetnet.text import counted, harmless, inline, percent
from budgetnet.trainer import Prediction, Trainer, check_same, image_files


def predict_files(target: str, files: tuple[str, ...], how: Written, asked: Predicting) -> int:
    """Print or write what the models that are named say of the image files; return the exit code.

    All that can be known beforehand is refused beforehand: files that are not there, Ids that come twice, a
    file that cannot be written, or that is there already.
    """
    _check(how)
    sample = read_sample(how.like) if how.like is not None else None
    trainer = Trainer(asked.device, out=None, show=False)
    trained_models = [trained(name, trust=how.trust) for name in (target, *asked.others)]
    listed = image_files(files)
    _check_out(how, listed.paths)
    if how.layout == "submission":
        _check_ids([str(path) for path in listed.paths])
    loaded = [_model(each, asked, trainer) for each in trained_models]
    cards = [known if (known := card(model)) is not None else Card() for model in loaded]
    for other in cards[1:]:
        check_same(cards[0].classes, other.classes)
    began = dict.fromkeys(note for known in cards for note in not_from_scratch(known.external))
    for note in (*began, *sentences(listed.findings)):
        say(f"note: {note}", error=True)
    paths: Sequence[Path] = listed.paths
    if sample is not None:
        wish, found = sample.asks(cards[0].classes), matched(sample, paths)
        say(f"note: {how.like} asks for {wish.told(cards[0].classes)}", error=True)
        if len(found) < len(paths):
            extra = counted(len(paths) - len(found), "image")
            say(f"note: {extra} left out, of which {how.like} has no Id", error=True)
        paths = list(dict.fromkeys(found.values()))
    prediction = trainer.predict(
        loaded,
        paths,
        resolution=asked.resolution,
        test=asked.test(cards),
        unreadable="skip" if asked.skip else "refuse",
    )
    if sample is not None:
        _write(filled(sample, wish, found, prediction), len(prediction.names), how)
    else:
        _show(prediction, how)
    unread = [finding for finding in prediction.findings if finding.kind in UNREADABLE]
    return _told(unread, "keeps the sample's values" if sample is not None else "has no row")


def _check(how: Written) -> None:
    """Refuse options that ask for two things."""
    if how.indices and how.layout != "submission":
        raise ValueError("--indices says how a submission is written: add --format submission")
    if how.as_json and how.layout != "table":
        raise ValueError(f"--json and --format {how.layout} ask for two forms: give one of them")
    if how.like is not None and (how.as_json or how.layout != "table" or how.top != 1):
        raise ValueError("--like says by itself what is written: leave out --format, --json and --top")
    if how.top != 1 and how.layout == "submission":
        raise ValueError("--top names several classes, and a submission has one: leave one of them out")


def _check_out(how: Written, paths: Sequence[Path]) -> None:
    """Refuse a file that cannot be written, is an image, or is there already."""
    if how.out is None:
        return
    check_writable(Path(how.out))
    if os.path.realpath(how.out) in {os.path.realpath(path) for path in paths}:
        raise ValueError(
            f"--out should be a new file, not {how.out}, which is one of the images: name another"
        )
    if Path(how.out).exists() and not how.force:
        raise ValueError(f"{how.out} is there already: name another --out, or overwrite it with --force")


def _model(loaded: Trained, asked: Predicting, trainer: Trainer) -> nn.Module:
    plan = loaded.plan(Asked(), asked.recipe) if asked.recipe is not None else None
    return load_trained(loaded, plan, trainer.device)


def _show(prediction: Prediction, how: Written) -> None:
    if how.layout == "table" and how.out is None and not how.as_json:
        head = ("class", "probability")
        table(
            ("file", *_heads(head, how.top)), _rows(prediction, how.top), left={0, *range(1, 2 * how.top, 2)}
        )
        return
    text, notes = _text(prediction, how)
    for note in notes:
        say(f"note: {note}", error=True)
    _write(text, len(prediction.names), how)


def _write(text: str, images: int, how: Written) -> None:
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
    say(f"{images:,} predictions are in {how.out}", error=True)


def _print(text: str) -> None:
    """Write text to standard output: to a program as it is, in UTF-8, to a terminal harmless."""
    # A program reads names as they are, and click would take escape sequences out of them.
    click.echo(harmless(text) if sys.stdout.isatty() else encoded(text), nl=False)


def _told(unread: Sequence[Finding], what: str) -> int:
    """Name the images that could not be read, each with the reason, and return the exit code that says so."""
    if not unread:
        return 0
    for finding in unread:
        say(f"left out: {finding}", error=True)
    several = what.replace("has", "have").replace("keeps", "keep")
    images = (
        f"image that cannot be read {what}" if len(unread) == 1 else f"images that cannot be read {several}"
    )
    say(f"{len(unread):,} {images}", error=True)
    return SKIPPED


def _heads(head: Sequence[str], top: int) -> list[str]:
    """The titles of the best classes: class, class_2, class_3, each with what else is told of it."""
    return [f"{name}_{k}" if k > 1 else name for k in range(1, top + 1) for name in head]


def _rows(prediction: Prediction, top: int) -> list[tuple[str, ...]]:
    best = prediction.top(min(top, len(prediction.classes)))
    cells = ([cell for name, p in row for cell in (name, percent(p))] for row in best)
    blank = [""] * 2 * max(0, top - len(prediction.classes))
    return [(name, *row, *blank) for name, row in zip(prediction.names, cells, strict=True)]


def _text(prediction: Prediction, how: Written) -> tuple[str, list[str]]:
    """Return what is to be written, and notes on names that others might misread."""
    labels, confidence = prediction.labels.tolist(), prediction.confidence.tolist()
    if how.as_json:
        keys = ("file", "class", "index", "probability")
        each = zip(prediction.names, prediction.named(), labels, confidence, strict=True)
        left_out = [str(finding) for finding in prediction.findings if finding.kind in UNREADABLE]
        rows_of = [dict(zip(keys, one)) for one in each]
        if how.top > 1:
            pair = ("class", "probability")
            for row, best in zip(rows_of, prediction.top(how.top), strict=True):
                row["top"] = [dict(zip(pair, one)) for one in best]
        entries = {"predictions": rows_of, "left_out": left_out}
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
        more = prediction.top(how.top) if how.top > 1 else [[]] * len(safe)
        safe = [
            (*row, *(cell for name, p in best[1:] for cell in (sheet(name), f"{p:.6f}")))
            for row, best in zip(safe, more, strict=True)
        ]
        count = min(how.top, len(prediction.classes))
        head = ("file", "class", "index", "probability", *_heads(("class", "probability"), count)[2:])
        return "".join(map(line, [head, *safe])), danger(cells, kept=False)
    return "".join("\t".join(map(inline, row)) + "\n" for row in _rows(prediction, how.top)), []


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
