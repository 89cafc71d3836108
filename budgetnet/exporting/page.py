"""Page: the model card of a run or model file in Markdown, filled in from what is recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from budgetnet.budget import ledger
from budgetnet.metrics import interval_text, wilson
from budgetnet.modelfile import Card, load, read_card, resolved
from budgetnet.run import MODEL, RECORD, Run
from budgetnet.text import inline, percent

CARD = "card.md"
_SPLITS = {"val": "validation", "test": "test"}


def model_card(model: Run | str | Path, *, licence: str = "") -> str:
    """The card of a trained model as a page in Markdown, with the head that model hubs read.

    `model` is a run, its folder, a model file, or the name of one that comes along. The page says the data,
    the budget, every figure with its number of images and its 95 % interval, what the model began from, its
    limits, and the `licence` as it is given, such as "apache-2.0". Raises ValueError.

        Path("card.md").write_text(budgetnet.model_card("runs/mine-1", licence="mit"))
    """
    file, record = source(model)
    known = read_card(file)
    params = None if known.builder is None else ledger(load(file)).params
    name = file.parent.name if file.name == MODEL else file.stem
    return card_page(known, record, (name, params, file.stat().st_size), licence)


def source(model: Run | str | Path) -> tuple[Path, Mapping[str, Any]]:
    """The model's file, and the record of its run, {} where none is known."""
    if isinstance(model, Run):
        if model.folder is None:
            raise ValueError("the run has no folder: save its model, and give the file")
        model = model.folder
    file = resolved(model)
    file = file / MODEL if file.is_dir() else file
    return file, record_of(file)


def record_of(file: Path) -> Mapping[str, Any]:
    """The record of the run that a model's file lies in, else the one beside it; {} where there is none."""
    in_run = file.name == MODEL and (file.parent / RECORD).exists()
    return (Run.read(file.parent) if in_run else Run.beside(file)).record


def stated_licence(page: Path) -> str:
    """The licence that a card that lies there states, "" for none."""
    try:
        known = re.search(r"^## Licence\n\n(?!None was given)(.+)$", page.read_text(), re.MULTILINE)
    except (OSError, ValueError):
        return ""
    return known[1] if known else ""


def is_card(page: Path) -> bool:
    """Whether a page is a card that was written here, by its head."""
    try:
        head = re.match(r"---\n(license: .*\n)?library_name: budgetnet\n", page.read_text())
    except (OSError, ValueError):
        return False
    return head is not None


def card_page(
    card: Card,
    record: Mapping[str, Any],
    file: tuple[str, int | None, int],
    licence: str = "",
    compared: str = "",
) -> str:
    """The page of a model by its card, its run's record, the `file`'s name, parameters and bytes.

    `compared` says how an export compares with its original.
    """
    name, params, weighs = file
    licence = " ".join(licence.split())
    plain = re.fullmatch(r"[A-Za-z0-9.+-]{1,40}", licence)
    head = ["---", *([f"license: {licence.lower() if plain else 'other'}"] if licence else [])]
    head += ["library_name: budgetnet", "pipeline_tag: image-classification", "---", ""]
    parts = [
        f"# {inline(name)}",
        _what(card),
        "## Figures",
        *_figures(record),
        *([f"The export beside its original:\n\n```text\n{compared}\n```"] if compared else []),
        "## Data",
        _data(record),
        "## Budget",
        _budget(card, params, weighs),
        "## Training",
        *_training(card, record),
        "## Limits",
        "\n".join(f"- {one}" for one in _limits(card, record)),
        "## Licence",
        inline(licence) if licence else "None was given: ask whoever trained it.",
    ]
    return "\n".join(head) + "\n\n".join(parts) + "\n"


def _what(card: Card) -> str:
    side = card.crop or card.resize
    size = f" of {side} x {side} pixels" if side else ""
    names = ", ".join(map(inline, card.classes))
    kind = f"`{inline(card.builder or card.origin)}`"
    told = f"{len(card.classes):,} classes: {names}" if names else "classes that it does not name"
    sort = {1: "grey", 3: "colour"}.get(card.channels, f"{card.channels}-channel")
    return f"An image classifier ({kind}) that is shown {sort} images{size} and tells {told}."


def _figures(record: Mapping[str, Any]) -> Iterator[str]:
    result = record.get("result") or {}
    rows = []
    for split, word in _SPLITS.items():
        accuracy, images = result.get(f"{split}_accuracy"), result.get(f"{split}_images")
        if isinstance(accuracy, float) and isinstance(images, int):
            ends = interval_text(wilson(accuracy * images, images))
            rows.append(f"| {word} | {images:,} | {percent(accuracy)} | {ends} |")
    if rows:
        yield "\n".join(["| images | n | accuracy | 95 % interval |", "|---|---|---|---|", *rows])
        yield (
            "The interval (Wilson's) says how far the accuracy on all images of this kind may lie from that "
            "on these n; how much another training would differ it does not know."
        )
    else:
        yield "None are recorded."


def _data(record: Mapping[str, Any]) -> str:
    data = record.get("data") or {}
    counts = ", ".join(
        f"{count:,} {inline(str(split))}" for split, count in (data.get("images") or {}).items()
    )
    return (
        f"{inline(str(data['name']))}: {counts} images." if data.get("name") and counts else "Not recorded."
    )


def _budget(card: Card, params: int | None, weighs: int) -> str:
    limits = ", ".join(
        f"{name} {_limit(name, limit)}" for name, limit in (card.budget or {}).items() if limit is not True
    )
    given = f"Limits: {limits}." if limits else "No limits were set."
    counted = "" if params is None else f" It has {params:,} parameters."
    return f"{given}{counted} The file has {weighs:,} bytes."


def _limit(name: str, limit: Any) -> str:
    """A limit as a card has it: latency in seconds, a resolution in pixels, words, and counts."""
    if name == "latency":
        return f"{1000 * limit:,.8g} ms"
    return f"{limit:,}" if isinstance(limit, int) else inline(str(limit))


def _training(card: Card, record: Mapping[str, Any]) -> Iterator[str]:
    began = f"external weights, {inline(card.external)}" if card.external else "random weights"
    after = record.get("after")
    earlier = after.get("folder") if isinstance(after, Mapping) else after
    yield f"It began from {began}{f', after the run {inline(str(earlier))}' if earlier else ''}."
    if not record:
        yield "How it was trained is not recorded."
        return
    result, versions = record.get("result") or {}, record.get("versions") or {}
    entries = {
        "recipe": record.get("recipe_file"),
        "epoch of these weights": result.get("epoch"),
        "seed": record.get("seed"),
        "minutes": round(result["seconds"] / 60, 1) if "seconds" in result else None,
        "device": record.get("device"),
        "precision": record.get("precision"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    lines = [f"- {what}: {inline(str(value))}" for what, value in entries.items() if value not in (None, "")]
    yield "\n".join(lines)


def _limits(card: Card, record: Mapping[str, Any]) -> Iterator[str]:
    count = f"{len(card.classes):,} " if card.classes else ""
    yield f"It gives one of its {count}classes for any image, also for one that shows none of them."
    result = record.get("result") or {}
    if "test_accuracy" not in result:
        yield "No test images were measured: what was chosen by validation images looks better on these."
    yield "Its figures are of images like those of its data; for photos of another kind measure it anew."
    notes = record.get("notes")
    yield from (inline(str(note)) for note in (notes if isinstance(notes, list) else [])[:10])
