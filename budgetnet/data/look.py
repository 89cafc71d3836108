"""A quick look at a folder of photos, by names and headers alone: number, classes, sides and colours."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from budgetnet.data.columns import Columns
from budgetnet.data.folder import Root, photo_root
from budgetnet.data.kinds import DataError
from budgetnet.data.listing import File, checked, listing
from budgetnet.data.table import survey_table

# So many headers are read, of photos spread over all.
LOOKED = 500


@dataclass(frozen=True)
class Look:
    """Photos as they lie: those of each class of train, the median shorter side, whether all are grey."""

    root: Path
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    parts: dict[str, int]
    side: int
    grey: bool

    def __str__(self) -> str:
        most, least = max(self.counts), min(self.counts)
        parts = ", ".join(f"{count:,} {part}" for part, count in self.parts.items())
        each = f"{least:,} to {most:,} each" if least < most else f"{most:,} each"
        colours = ", grey" if self.grey else ""
        return f"{parts}; {len(self.classes):,} classes, {each}; {self.side} pixels high or wide{colours}"


def look(
    root: Root = None,
    *,
    images: str | os.PathLike[str] | None = None,
    name: str | None = None,
    label: str | Sequence[str] | None = None,
) -> Look:
    """Return what the photos that `folder` or `table` read are like, without decoding any.

    Sides and colours are those of the headers of some hundred photos spread over all. Raises `DataError` as
    `folder` does, and where none of these is a photo.

        print(look("photos"))
    """
    place = photo_root(root)
    is_table = isinstance(place, Path) and place.is_file()
    columns = Columns(name, label)
    photos = checked(survey_table(str(place), images, columns)) if is_table else listing(place)
    train = photos.parts["train"]
    counts = [0] * len(photos.classes)
    for file in train:
        counts[file.label] += 1
    sides, greys = zip(*(_header(photos.root, file) for file in train[:: max(1, len(train) // LOOKED)]))
    known = [side for side in sides if side]
    if not known:
        raise DataError(f"none of the photos looked at in {photos.root} can be read: see `budgetnet check`")
    parts = {name: len(files) for name, files in photos.parts.items()}
    side = int(statistics.median(known))
    return Look(photos.root, photos.classes, tuple(counts), parts, side, all(greys))


def _header(root: Path, file: File) -> tuple[int, bool]:
    """The shorter side of a photo, 0 for what is none, and whether it has no colours."""
    from PIL import Image

    from budgetnet.data.oddities import GREY, opened
    from budgetnet.data.walk import FORMATS

    try:
        with opened(root / file.path) as content, Image.open(content, formats=tuple(FORMATS)) as image:
            return min(image.size), image.mode in GREY
    except Exception:  # Decoders answer damaged bytes with whatever comes up; `check` says what it is.
        return 0, True
