"""`budgetnet evaluate`: a trained model measured on the images of a recipe that the user names."""

import contextlib
import json
import re

import click
from torch import nn

from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import Measured
from budgetnet.cli.trained import Trained, load_trained, not_from_scratch, trained
from budgetnet.console import say, table
from budgetnet.data import Data, Split, class_difference
from budgetnet.exporting import SUFFIXES
from budgetnet.guard import selection, unrecognised
from budgetnet.modelfile import Card, card
from budgetnet.recipe import Test
from budgetnet.text import percent
from budgetnet.trainer import Evaluation, Trainer

MOST_SIZES = 1000
"""How many resolutions may be asked for at once."""


def evaluate_target(target: str, recipe: str | None, asked: Asked, how: Measured) -> None:
    """Print accuracy, top-5, loss and each class's figures of the model that `target` names."""
    sizes = _sizes(how)
    trainer = Trainer(how.device, out=None, show=False)
    loaded = trained(target, trust=how.trust)
    if sizes and loaded.file.suffix in SUFFIXES:
        raise ValueError(
            "--resolutions asks a model at many sizes, and an exported file takes images of one: ask the run "
            "that it was made of"
        )
    if recipe is None:
        raise ValueError(
            "evaluate takes its images from a recipe's data(), and executes no recipe that is not named; "
            f"name it: budgetnet evaluate {target} {loaded.recipe_file or 'RECIPE'}"
        )
    plan = loaded.plan(asked, recipe)
    model = load_trained(loaded, plan, trainer.device)
    data = plan.data()
    split = _split(data, how.split)
    known = card(model)
    if known is not None and known.classes and not set(data.classes) <= set(known.classes):
        raise ValueError(
            f"{loaded.file} tells apart {_names(known.classes)}, and the data of {plan.path} have "
            f"{_names(data.classes)}, {class_difference(data.classes, known.classes)}; name the recipe that "
            "the model was trained by"
        )
    fixed = known.crop if known is not None and loaded.file.suffix in SUFFIXES else None
    if fixed is not None and (odd := next((size for size in how.resolution if size != fixed), None)):
        raise ValueError(
            f"{loaded.file} takes images of {fixed} pixels, not {odd}: leave --resolution out, or "
            "export the model at that one"
        )
    _say([*not_from_scratch((known or Card()).external), *loaded.flattered(split, how.split)], how)
    models, measured_too = [model], [loaded]
    for name in how.others:
        other = trained(name, trust=how.trust)
        # One that only a recipe can build is built by the one that is named.
        models.append(load_trained(other, other.plan(asked, recipe), trainer.device))
        measured_too.append(other)
        _say(other.flattered(split, how.split, whose=name), how)
    if sizes:
        notes = _used([loaded], split, how.split, f"at {how.resolutions} px")
        _sweep(trainer, model, loaded, split, sizes, how)
        _say(notes, how)
        return
    own = known or Card()
    test, metrics = _test(own, how), plan.recipe.metrics
    at = ", ".join(map(str, how.resolution))
    if len(how.resolution) > 1:
        _say([f"each image is seen at {at} px, and the mean counts"], how)
    _say(_unasked([card(each) or Card() for each in models], how), how)
    measured = trainer.evaluate(models, split, resolution=how.resolution, test=test, metrics=metrics)
    if how.as_json:
        click.echo(json.dumps(measured.json(), indent=2))
    else:
        _show(measured, how.split, split)
    _say(unrecognised(measured.unrecognised, how.split), how)
    looks = (test or Test(mirror=own.mirror, shift=own.shift)).looks
    said = _asked(how, at or str(measured.resolution), looks, len(how.others))
    _say(_used(measured_too, split, how.split, said), how)


def _asked(how: Measured, at: str, looks: int, others: int) -> str:
    """How test images were measured, as the run's record keeps it."""
    often = f", {looks} looks" if looks > 1 else ""
    return f"resize {how.resize}, at {at} px{often}" + (f", with {others} more" if others else "")


def _test(known: Card, how: Measured) -> Test | None:
    """How images are shown and looked at, where it is asked for otherwise than the card says."""
    if how.resize is None and how.mirror is None and how.shift is None:
        return None
    mirror = known.mirror if how.mirror is None else how.mirror
    shift = known.shift if how.shift is None else how.shift
    crop = None if how.resize is None else next(iter(how.resolution), known.crop)
    return Test(how.resize, crop, mirror=mirror, shift=shift)


def _unasked(cards: list[Card], how: Measured) -> list[str]:
    """What is to be said where the cards, and nobody else, let images be looked at several times."""
    mirror = how.mirror is None and any(known.mirror for known in cards)
    shift = how.shift is None and any(known.shift for known in cards)
    plainly = " ".join(["--no-mirror"] * mirror + ["--shift 0"] * shift)
    if not plainly:
        return []
    tests = [_test(known, how) or Test(mirror=known.mirror, shift=known.shift) for known in cards]
    looks = sorted({test.looks for test in tests})
    often = " or ".join(str(times) for times in looks)
    tested = "the models were tested" if len(cards) > 1 else "the model was tested"
    said = f"each image is looked at {often} times, as {tested}"
    return [f"{said}; {plainly} gives the plain figure"]


def _say(notes: list[str], how: Measured) -> None:
    for note in notes:
        say(f"note: {note}", error=how.as_json)


def _used(models: list[Trained], split: Split, name: str, how: str) -> list[str]:
    """Note in the runs' records that their test images were measured, and how; gives what the guard says."""
    said: list[str] = []
    for loaded in models:
        run = loaded.run
        if name != "test" or run is None or run.folder is None:
            continue
        before = run.record.get("data", {}).get("fingerprints", {})
        if isinstance(before, dict) and before.get("test") == split.fingerprint():
            uses = run.record.get("test_uses", [])
            # A folder that can only be read is measured all the same.
            with contextlib.suppress(OSError):
                run.note(test_uses=[*(uses if isinstance(uses, list) else []), how])
        said += [note for note in selection(run.folder.parent) if note not in said]
    return said


def _sizes(how: Measured) -> list[int]:
    """The resolutions to go through, none for a single one. Raises ValueError for options that clash."""
    if how.resolutions is None:
        if how.plot is not None:
            raise ValueError("--plot draws several resolutions; name them: --resolutions 60:200:20")
        if how.resize is not None and len(how.resolution) > 1:
            raise ValueError(
                f"--resize should come with one --resolution, not {len(how.resolution)}: leave --resize out"
            )
        return []
    given = {
        "--resolution": how.resolution or None,
        "--resize": how.resize,
        "--with": how.others or None,
        "--mirror" if how.mirror else "--no-mirror": how.mirror,
        "--shift": how.shift,
    }
    other = next((name for name, value in given.items() if value is not None), None)
    if other is not None:
        raise ValueError(f"--resolutions asks one model at every size by itself; leave out {other}")
    sizes = [size for part in how.resolutions.split(",")[:MOST_SIZES] for size in _range(part.strip())]
    if len(sizes) > MOST_SIZES or how.resolutions.count(",") >= MOST_SIZES:
        raise ValueError(f"--resolutions names more than {MOST_SIZES} sizes; take larger steps")
    return sizes


def _range(text: str) -> list[int]:
    """96 as [96], and 60:200:20 as 60, 80 ... 200, both ends included."""
    if not re.fullmatch(r"[0-9]{1,5}(:[0-9]{1,5}:[0-9]{1,5})?", text):
        raise ValueError(
            "--resolutions should read 60:200:20 (first, last, step) or 64,96,128 in pixels, not "
            f"{text[:40]!r}"
        )
    first, last, step = (int(part) for part in (text.split(":") if ":" in text else (text, text, "1")))
    if first < 1 or last < first or step < 1:
        raise ValueError(
            f"--resolutions {text} names none: it should rise from 1 pixel or more in steps of 1 or more"
        )
    return list(range(first, last + 1, step))


def _sweep(
    trainer: Trainer, model: nn.Module, loaded: Trained, split: Split, sizes: list[int], how: Measured
) -> None:
    """Print a line for each resolution, and draw them into a PNG file."""
    from budgetnet.reporting import PLOT, NoPlot, by_resolution, save_plot, trained_at

    trained = trained_at(loaded.run) if loaded.run is not None else ()
    measured = by_resolution(trainer, model, split, sizes, trained=trained)
    folder = loaded.run.folder if loaded.run is not None else None
    path = how.plot or (folder / PLOT if folder is not None else None)
    if how.as_json:
        click.echo(measured.json())
    else:
        say(f"{how.split}: {measured.images:,} images")
        say(str(measured))
        if how.split == "test":
            say("note: a resolution that is chosen by these figures is chosen on the test images")
    if path is None:
        return
    try:
        save_plot(measured, path, title=f"{folder.name if folder is not None else loaded.file}, {how.split}")
    except NoPlot as error:
        say(f"note: {error}", error=how.as_json)
    else:
        say(f"the plot is in {path}", error=how.as_json)


def _split(data: Data, name: str) -> Split:
    chosen = data.splits.get(name)
    if chosen is None:
        has = ", ".join(key for key in data.splits if key != "unlabelled")
        raise ValueError(
            f"{data.name} has no {name} split: add its images to the data, or choose --split from {has}"
        )
    return chosen


def _names(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    return f"{len(classes)} classes ({shown})"


def _show(measured: Evaluation, name: str, split: Split) -> None:
    say(f"{name}: {measured}")
    majority = measured.majority
    say(
        f"balanced accuracy {percent(measured.balanced_accuracy)}, macro F1 {measured.macro_f1:.4f}; the "
        f"majority class alone, {majority.name}, would reach {percent(majority.images / measured.images)}"
    )
    for metric, figure in measured.metrics.items():
        say(f"{metric} {figure:.4f}")
    rows, said = [], dict[int, list[tuple[int, int]]]()
    for truth, called, times in measured.pairs:
        said.setdefault(truth, []).append((times, called))
    for k, each in enumerate(measured.by_class):
        others = [pair for pair in said.get(k, []) if pair[1] != k]
        most = max(others, default=None, key=lambda pair: (pair[0], -pair[1]))
        taken = "" if most is None else f"{measured.classes[most[1]]} ({most[0]})"
        figures = (percent(each.precision), percent(each.recall), percent(each.f1))
        rows.append((each.name, f"{each.images:,}", *figures, taken))
    table(("class", "images", "precision", "recall", "F1", "mostly taken for"), rows)
