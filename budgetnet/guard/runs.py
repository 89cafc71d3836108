"""What the records of other runs tell: a test set that was chosen by, validation images that were learnt."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from budgetnet.data import Data, Split
from budgetnet.files import read_whole
from budgetnet.guard.seen import learnt_before, read_seen, trained_on
from budgetnet.run import LONGEST_RECORD, RECORD


def selection(folder: str | Path) -> list[str]:
    """Whether the runs beside each other in `folder` (such as runs/) have used a test set to choose by.

    A sentence for each set of test images that runs of different recipes or settings were measured on. A
    run's final test figures are one use, and so is each entry of its record's "test_uses". Repetitions that
    differ in their seed alone do not count as different. What is no run is passed over.
    """
    tests: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, record in _records(Path(folder)):
        mark = _entry(record, "data", "fingerprints").get("test")
        if isinstance(mark, str) and _uses(record):
            tests.setdefault(mark, []).append((name, record))
    notes = []
    for runs in tests.values():
        different = len({way for _, record in runs for way in _ways(record)})
        if different < 2:
            continue
        uses = sum(_uses(record) for _, record in runs)
        names = ", ".join(name for name, _ in runs[:3]) + (", ..." if len(runs) > 3 else "")
        count = _entry(runs[0][1], "data", "images").get("test")
        images = f"{count:,} test images" if isinstance(count, int) else "test images"
        by = f"{len(runs)} runs ({names})" if len(runs) > 1 else runs[0][0]
        notes.append(
            f"the same {images} have been measured {uses} times in {folder}, by {by}, in {different} "
            "different ways: the best of these figures flatters; choose by validation, and measure test once"
        )
    return notes


def chained(
    data: Data,
    earlier: Mapping[str, Any],
    seen: Tensor | None = None,
    *,
    whose: str = "the run that this one goes on from",
) -> list[str]:
    """Whether images of val and test may have been trained on by the run `whose` record is `earlier`.

    With `seen`, the hashes of that run's training images (`read_seen` of its folder), they are counted;
    without, a split that is also the earlier run's val or test is clean, and every other one in doubt.
    """
    if seen is not None:
        return [
            f"{images} trained on by {whose}: {name}'s figures flatter; hold out the same images there and "
            "here"
            for name, images in learnt_before(data, seen)
        ]
    notes = []
    known = _entry(earlier, "data", "fingerprints")
    clean = {known.get("val"), known.get("test")} - {None}
    for name, words in (("val", "validation"), ("test", "test")):
        split = data.splits.get(name)
        if split is not None and split.fingerprint() not in clean:
            why = "are not those of" if known else "cannot be compared with those of"
            notes.append(
                f"the {words} images {why} {whose}: it may have been trained on some of them; hold out the "
                "same images (held_out=, seed=) there and here"
            )
    return notes


def flattered(
    split: Split, name: str, record: Mapping[str, Any], folder: Path | None = None, *, whose: str = "the run"
) -> list[str]:
    """Whether a model is measured on images that it may know: those of the split `name`, outside of its run.

    `record` is that of the run `whose` weights they are. Where its `folder` holds the hashes of its training
    images (`read_seen`), they are counted; without, the run's own val and test are clean, and all other
    images in doubt. Nothing is said where nothing is known of the run's images.
    """
    known = _entry(record, "data", "fingerprints")
    own = (name,) if name == "train" else (name, "val", "test")
    if known and split.fingerprint() in [known.get(each) for each in own]:
        return []
    if name == "train":
        return [f"these training images are not those of {whose}"] if "train" in known else []
    try:
        seen = read_seen(folder) if folder is not None else None
    except ValueError:
        seen = None
    if seen is None and name not in known:
        return []
    settings = " ".join(f"--set {text}" for text in _texts(record, "settings") if text.startswith("data."))
    way = f"; its own are those of {settings}" if settings and name in known else ""
    these = f"these {name} images are not those of {whose}"
    if seen is None:
        return [f"{these}: some of them may have been trained on{way}"]
    count = trained_on(split, seen)
    if not count:
        return [f"{these}, and none of them was trained on"]
    return [f"{these}: {count:,} of the {len(split):,} were trained on, and the figures flatter{way}"]


def record_of(place: Path) -> dict[str, Any]:
    """The record of a run's folder, or of weights that come along; an empty one where there is none."""
    try:
        record = json.loads(
            read_whole(place / RECORD if place.is_dir() else place.with_suffix(".json"), LONGEST_RECORD)
        )
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _records(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The records of the runs in a folder by the runs' names, in order."""
    found = ((path.parent.name, record_of(path.parent)) for path in sorted(folder.glob(f"*/{RECORD}")))
    return [(name, record) for name, record in found if record]


def _entry(record: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The mapping under these keys; an empty one where there is none."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def _texts(record: Mapping[str, Any], key: str) -> list[str]:
    """The texts in the list under this key; none where there is none."""
    texts = record.get(key)
    return [str(text) for text in texts] if isinstance(texts, list) else []


def _uses(record: Mapping[str, Any]) -> int:
    """How often the test images were measured with this run's model."""
    return (_entry(record, "result").get("test_accuracy") is not None) + len(_texts(record, "test_uses"))


def _ways(record: Mapping[str, Any]) -> set[str]:
    """What was measured and how, as text: the same for the same recipe, settings and way of testing."""
    settings = record.get("settings")
    if isinstance(settings, list | tuple):
        settings = [str(line) for line in settings if not str(line).startswith("seed=")]
    kept = {
        "recipe": _seedless(_entry(record, "recipe")),
        "settings": _seedless(settings) if isinstance(settings, dict) else settings,
        "model": _entry(record, "model"),
        "scale": record.get("scale"),
        "train": _entry(record, "data", "images").get("train"),
    }
    run = json.dumps(kept, sort_keys=True, default=str)
    ways = {f"{run} {use}" for use in _texts(record, "test_uses")}
    return ways | ({run} if _entry(record, "result").get("test_accuracy") is not None else set())


def _seedless(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if key != "seed"}
