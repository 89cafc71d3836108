"""A look at data before they are trained on: all that is odd, what is done with it, and class counts."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from budgetnet.data.choose import fifth, takes
from budgetnet.data.columns import Columns, column_of
from budgetnet.data.data import Data, grouped_overlaps, rare, repeated, twice, unheld
from budgetnet.data.folder import Root, Storing, check_options, photo_root, read, with_groups
from budgetnet.data.folds import of_groups
from budgetnet.data.kinds import KINDS, DataError, Finding, grouped, remark_kind
from budgetnet.data.listing import Listing, survey
from budgetnet.data.source import cache_folder
from budgetnet.data.splits import Split
from budgetnet.data.table import survey_table
from budgetnet.text import aligned, counted, inline

# The side in pixels at which photos are compared where none is asked for.
SIZE = 32
# As text, so many classes are listed, the rarest first.
ROWS = 20


@dataclass(frozen=True)
class Inspection:
    """What was found: every oddity, and the images of each class in each split (those that can be read).

    `notes` are sentences on what is odd but of no kind in the table. `str()` is a page of text.
    """

    name: str
    classes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> tuple[str, ...]:
        """Why a run would be refused, a sentence for each reason; none where it would not."""
        return tuple(finding.detail for finding in self.findings if finding.policy == "refused")

    def json(self) -> dict[str, Any]:
        """All of it as JSON can hold it; every finding is named."""
        kinds = {
            name: {
                "policy": KINDS[name].policy,
                "done": KINDS[name].done,
                "count": len(some),
                "files": [{"path": inline(one.path), "detail": inline(one.detail)} for one in some],
            }
            for name, some in grouped(self.findings).items()
        }
        return {
            "name": self.name,
            "refused": [inline(sentence) for sentence in self.refused],
            "kinds": kinds,
            "images": {split: sum(counts) for split, counts in self.counts.items()},
            "classes": {
                inline(label): {split: counts[k] for split, counts in self.counts.items()}
                for k, label in enumerate(self.classes)
            },
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        images = ", ".join(f"{sum(counts):,} {split}" for split, counts in self.counts.items())
        classes = counted(len(self.classes), "class")
        parts = [f"{inline(self.name)}: {images or 'no images'}, {classes}"]
        if self.findings:
            parts.append(aligned([("kind", "images", "policy", "examples"), *self._kinds()], left=(0, 2, 3)))
        if self.classes and self.counts:
            parts.append(aligned(list(self._classes())))
        if self.notes:
            parts.append("\n".join(f"note: {note}" for note in self.notes))
        return "\n\n".join([*parts, self._verdict()])

    def _kinds(self) -> Iterator[tuple[str, ...]]:
        """Yield a row for each kind that was found, what is refused first."""
        for name, some in grouped(self.findings).items():
            kind = KINDS[name]
            # A refusal is told in whole sentences below.
            names = [inline(one.path) if kind.policy == "refused" else str(one) for one in some[:3]]
            examples = ", ".join(names) + (", ..." if len(some) > 3 else "")
            done = kind.done if kind.done.startswith(kind.policy) else f"{kind.policy}: {kind.done}"
            yield name, f"{len(some):,}", done, examples

    def _classes(self) -> Iterator[tuple[str, ...]]:
        """Yield a row for each class, or for those with the fewest and the most training images."""
        yield ("class", *self.counts)
        first = next(iter(self.counts.values()))
        order = list(range(len(self.classes)))
        if len(order) > ROWS:
            order.sort(key=lambda k: first[k])
        rows: list[tuple[str, ...]] = [
            (inline(self.classes[k]), *(f"{counts[k]:,}" for counts in self.counts.values())) for k in order
        ]
        if len(rows) > ROWS:
            rows[ROWS // 2 : -(ROWS // 2)] = [(f"... {len(rows) - ROWS:,} more", *("" for _ in self.counts))]
        yield from rows
        yield ("all", *(f"{sum(counts):,}" for counts in self.counts.values()))

    def _verdict(self) -> str:
        if self.refused:
            return "\n".join(f"refused: {inline(sentence)}" for sentence in self.refused)
        numbers = Counter(finding.policy for finding in self.findings)
        counts = f"{numbers['left out']:,} left out, {numbers['used']:,} used and named"
        return f"nothing is refused ({counts})" if self.findings else "nothing is odd, nothing is refused"


def inspect(
    root: Root | Data,
    *,
    size: int | None = None,
    shape: Literal["crop", "squash"] = "crop",
    cache: str | os.PathLike[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    name: str | None = None,
    label: str | Sequence[str] | None = None,
    part: str | None = None,
    groups: str | Callable[[str], object] | None = None,
) -> Inspection:
    """Return all that is odd about photos that `folder` or `table` read, or about loaded data.

    A `root` that is a file (or a mapping to files) is a table: `images`, `name`, `label` and `part` are as
    for `table`, and `groups` as for `table` or `folder`.

    Every photo is read once. With a `size` they are stored at it as `folder(root, size=size)` stores them in
    `cache`, so that a run finds them there; without one nothing is kept. Duplicates are those that are equal
    at that size. What a run would refuse is among the findings. Raises `DataError` for a root that is no
    folder, for folders that cannot be looked into, and for a cache that cannot be written.

        print(inspect("photos"))
    """
    if isinstance(root, Data):
        inspection = _of_splits(root.name, root.classes, root.splits, root.findings)
        notes = tuple(note for note in root.notes if not remark_kind(note) and note not in inspection.notes)
        return replace(inspection, notes=(*notes, *inspection.notes))
    check_options(SIZE if size is None else size, shape)
    photos = _surveyed(root, images, Columns(name, label, part), groups)
    if not photos.parts:
        return Inspection(photos.name, photos.classes, {}, photos.findings)
    with nullcontext(cache) if size is not None else _aside(cache_folder(cache)) as folder:
        splits, findings = read(photos, Storing(size or SIZE, shape == "squash", cache=folder))
        odd = (*findings, *_undrawn(splits, photos.classes))
        return _of_splits(photos.name, photos.classes, splits, odd)


def _surveyed(
    root: Root,
    images: str | os.PathLike[str] | None,
    columns: Columns,
    groups: str | Callable[[str], object] | None,
) -> Listing:
    """Return the photos in class folders, or those of a table, with their groups where these are named."""
    place = photo_root(root)
    first = next(iter(place.values()), None) if isinstance(place, Mapping) else place
    if root is not None and (images is not None or columns != Columns() or (first and first.is_file())):
        return survey_table(root, images, replace(columns, groups=column_of(groups)))
    return survey(place) if groups is None else with_groups(survey(place), groups)


def _aside(cache: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder that is removed in the end."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=cache, prefix=".check-")
    except OSError as error:
        raise DataError(f"{cache} cannot be written ({error.strerror}): name another cache") from None


def _undrawn(splits: Mapping[str, Split], classes: tuple[str, ...]) -> list[Finding]:
    """Return the classes that `folder` holds out nothing of, where it is not told how much to hold out."""
    if "val" in splits or "train" not in splits:
        return []
    train = splits["train"]
    counts = train.counts(len(classes))
    number = fifth(counts)
    if not number:
        return []
    if train.groups is None:
        return unheld(counts, takes(counts, number), classes)
    held = train.subset(of_groups(train.labels.tolist(), train.groups, number, 0))
    return unheld(counts, held.counts(len(classes)), classes)


def _of_splits(
    name: str, classes: tuple[str, ...], splits: Mapping[str, Split], findings: Sequence[Finding]
) -> Inspection:
    odd = [*findings, *twice(splits, classes, repeated(splits))]
    if "train" in splits:
        odd += rare(splits["train"], classes)
    labelled = {part: split.counts(len(classes)) for part, split in splits.items() if part != "unlabelled"}
    known = {group for split in splits.values() for group in split.groups or ()}
    notes = [f"{counted(len(known), 'group')}, each kept on one side of what is held out"] if known else []
    return Inspection(name, classes, labelled, tuple(dict.fromkeys(odd)), (*notes, *grouped_overlaps(splits)))
