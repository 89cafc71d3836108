"""Tiny-ImageNet-200 as its publisher packs it: 64x64 photos, 100,000 to train and 10,000 to validate."""

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from budgetnet.data.choose import HeldOut, split
from budgetnet.data.data import Data
from budgetnet.data.folder import parts, remarks
from budgetnet.data.kinds import DataError, Finding
from budgetnet.data.listing import listing
from budgetnet.data.remarks import remarked
from budgetnet.data.source import Source, data_root, published
from budgetnet.data.splits import Split

TINY_IMAGENET = Source(
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    md5="90528d7ca1a48142e341f4ef8d21d0de",
    folder="tiny-imagenet-200",
    limit=800_000_000,
)
NEEDED = ("wnids.txt", "words.txt", "val/val_annotations.txt")
# Where WordNet's names of the classes may stand, a line each: n01443537<tab>goldfish, Carassius auratus
NAMES = ("words.txt", "classes.txt")
SIZE = 64


def tiny_imagenet(
    root: str | os.PathLike[str] | None = None,
    *,
    held_out: HeldOut = None,
    per_class: int | None = None,
    seed: int = 0,
    download: bool | Source = True,
) -> Data:
    """Return Tiny-ImageNet: images uint8 (N, 3, 64, 64), 200 classes in order of their WordNet numbers.

    The official validation images are val, and test is None, for the publisher keeps the labels of his test
    images. With `held_out` those of the training images are val instead, and the official validation images
    are test: choose by the one, report the other. A folder of fewer classes in this layout, with val images
    in class folders or named by val_annotations.txt, is read as well. Classes have the first of their names
    in words.txt (or classes.txt), with the WordNet number where that is not unique.

    The files are read from `root` (else BUDGETNET_DATA, else ./data), the folder with tiny-imagenet-200 or
    that folder itself, fetched from the publisher when missing (248 MB, once; a `Source` as `download` names
    another place), and stored decoded as `folder` stores photos. `held_out`, `per_class` and `seed` are as in
    `split`. Raises `DataError`.

    Reference: http://cs231n.stanford.edu/reports/2015/pdfs/yle_project.pdf (Le and Yang, 2015).

        data = tiny_imagenet("data", held_out=10_000)
    """
    photos = listing(_place(data_root(root), download))
    if "val" not in photos.parts:
        raise DataError(
            f"{photos.root} should hold the official validation images in val, and holds none: fetch the set "
            "again, or read it by folder(..., size=64, held_out=0.1)"
        )
    photos = replace(
        photos, findings=tuple(finding for finding in photos.findings if not _as_published(finding))
    )
    splits, findings = parts(photos, SIZE)
    findings = tuple(finding for finding in findings if not _as_published(finding))
    official = splits.get("val")
    names = _names(photos.root, photos.classes)
    train, val = split(splits["train"], held_out, seed, per_class=per_class, classes=names)
    notes = remarks(photos, findings) + _sizes(splits["train"], official, len(names))
    # Held out nothing, such as 0: not the same as nothing said.
    val, test = (official, None) if held_out is None else (val, official)
    return remarked(Data(train, val, test, names, "tiny_imagenet", None, notes, findings)).in_memory()


def _as_published(finding: Finding) -> bool:
    """Whether it is the publisher's doing: greys, boxes.txt beside each class, test images without labels."""
    boxes = finding.kind == "no photo" and finding.path.endswith(".txt")
    return boxes or finding.kind in ("greyscale", "unlabelled part")


def _place(root: Path, download: bool | Source) -> Path:
    """Return the folder of the set, whole or smaller, that is there, else the published one, fetched."""
    source = download if isinstance(download, Source) else TINY_IMAGENET
    for place in (root / source.folder, root):
        if any(re.fullmatch(r"n\d{8}", folder.name) for folder in (place / "train").glob("n*")):
            return place
    return published(root, source, NEEDED, fetch=bool(download))


def _names(root: Path, numbers: tuple[str, ...]) -> tuple[str, ...]:
    """Return a readable name for each WordNet number, no two the same; the number where none is known."""
    words: dict[str, str] = {}
    for path in (root / name for name in NAMES):
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            words |= {number: rest for number, tab, rest in (line.partition("\t") for line in lines) if tab}
    first = {number: words.get(number, "").partition(",")[0].strip() or number for number in numbers}
    # "Cardigan" is a dog and "cardigan" a garment.
    times = Counter(name.casefold() for name in first.values())
    return tuple(
        name if times[name.casefold()] == 1 else f"{name} ({number})" for number, name in first.items()
    )


def _sizes(train: Split, val: Split | None, classes: int) -> tuple[str, ...]:
    """Return a note where this is not the whole published set."""
    sizes = (len(train), len(val or ()), classes)
    if sizes == (100_000, 10_000, 200):
        return ()
    return (
        f"{sizes[0]:,} training and {sizes[1]:,} official validation images of {classes} classes, "
        "the published set has 100,000 and 10,000 of 200",
    )
