"""STL-10 as its publisher packs it: 96x96 photos, 5,000 to train, 8,000 to test, 100,000 without labels."""

import os
from pathlib import Path

import torch

from budgetnet.data.binary import images, mapped
from budgetnet.data.choose import HeldOut, split
from budgetnet.data.disk import OnDisk
from budgetnet.data.error import DataError
from budgetnet.data.remarks import remarked
from budgetnet.data.source import Source, cache_folder, data_root, published
from budgetnet.data.splits import Data, Split

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
STL10 = Source(
    url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    md5="91f7769df0f17e558f3565bffb0c7dfb",
    folder="stl10_binary",
    limit=4_000_000_000,
)
OFFICIAL = {"train": 5_000, "test": 8_000, "unlabeled": 100_000}


def stl10(
    root: str | os.PathLike[str] | None = None,
    *,
    held_out: HeldOut = 1000,
    per_class: int | None = None,
    seed: int = 0,
    unlabelled: bool = False,
    download: bool | Source = True,
) -> Data:
    """Return STL-10: images uint8 (N, 3, 96, 96), ten classes, `held_out` of the training images as val.

    The files are read from `root` (else BUDGETNET_DATA, else ./data), the folder with stl10_binary or that
    folder itself, and fetched from the publisher when missing (2.6 GB, once; a `Source` as `download` names
    another place). Without test_X.bin, test is None. `unlabelled=True` reads unlabeled_X.bin too, into
    memory where it fits, else batch by batch as it is needed; otherwise it is not needed. `held_out`,
    `per_class` and `seed` are as in `split`. Raises `DataError`.

    Reference: https://cs.stanford.edu/~acoates/stl10/ (Coates, Lee and Ng, 2011).

        data = stl10("data", held_out="held_out_1000.txt")
    """
    needed = ["train_X.bin", "train_y.bin"] + ["unlabeled_X.bin"] * unlabelled
    source = download if isinstance(download, Source) else STL10
    folder = published(data_root(root), source, needed, fetch=bool(download))
    whole = _labelled(folder, "train")
    train, val = split(whole, held_out, seed, per_class=per_class, classes=CLASSES)
    test, rest = None, None
    if os.path.exists(folder / "test_X.bin"):
        test = _labelled(folder, "test")
    if unlabelled:
        pool = _images(folder / "unlabeled_X.bin", -1, "27,648 for each image")
        rest = Split(pool, torch.full((len(pool),), -1), torch.arange(len(pool)))
    sizes = {"train": len(whole), "test": len(test or ()), "unlabeled": len(rest or ())}
    notes = tuple(
        f"{part}_X.bin holds {sizes[part]:,} images, the published one {official:,}"
        for part, official in OFFICIAL.items()
        if sizes[part] not in (0, official)
    )
    return remarked(Data(train, val, test, CLASSES, "stl10", rest, notes)).in_memory()


def _labelled(folder: Path, part: str) -> Split:
    """Return one labelled part, its images still on disk."""
    if not os.path.isfile(folder / f"{part}_y.bin"):
        raise DataError(
            f"{part}_X.bin lies in {folder} without its {part}_y.bin: fetch that too, or move both away"
        )
    stated = mapped(folder / f"{part}_y.bin", (-1,), reason="one for each image")
    wrong = ((stated < 1) | (stated > len(CLASSES))).nonzero().flatten()
    if len(wrong):
        found = f"{int(stated[wrong[0]])} for image {int(wrong[0])}"
        raise DataError(
            f"{folder / f'{part}_y.bin'} should hold labels 1 ... 10, but holds {found}: fetch it again"
        )
    reason = f"27,648 for each of the {len(stated):,} labels of {part}_y.bin"
    photos = _images(folder / f"{part}_X.bin", len(stated), reason)
    return Split(photos, stated.long() - 1, torch.arange(len(photos)))


def _images(path: Path, count: int, reason: str) -> OnDisk:
    """Return (N, 3, 96, 96) over the file, which stores each channel column by column."""
    return OnDisk([images(path, (count, 3, 96, 96), (0, 2, 1), reason=reason)], cache=cache_folder(None))
