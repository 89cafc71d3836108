"""STL-10, CIFAR-10 and Tiny-ImageNet as their publishers pack them, checked for their sizes."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from budgetnet.data.choose import HeldOut, left_over, split
from budgetnet.data.data import Data, remarked
from budgetnet.data.disk import File, OnDisk
from budgetnet.data.folder import Storing, parts, remarks
from budgetnet.data.kinds import DataError, Finding
from budgetnet.data.listing import listing
from budgetnet.data.source import Source, cache_folder, data_root, published
from budgetnet.data.splits import Split

STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
STL10 = Source(
    url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    md5="91f7769df0f17e558f3565bffb0c7dfb",
    folder="stl10_binary",
    limit=4_000_000_000,
)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10 = Source(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    limit=400_000_000,
)
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
ROW = 1 + 3 * 32 * 32
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
    train, val = split(whole, held_out, seed, per_class=per_class, classes=STL10_CLASSES)
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
    return remarked(Data(train, val, test, STL10_CLASSES, "stl10", rest, notes)).in_memory()


def _labelled(folder: Path, part: str) -> Split:
    """Return one labelled part, its images still on disk."""
    if not os.path.isfile(folder / f"{part}_y.bin"):
        raise DataError(
            f"{part}_X.bin lies in {folder} without its {part}_y.bin: fetch that too, or move both away"
        )
    stated = _mapped(folder / f"{part}_y.bin", (-1,), reason="one for each image")
    wrong = ((stated < 1) | (stated > len(STL10_CLASSES))).nonzero().flatten()
    if len(wrong):
        label = f"{int(stated[wrong[0]])} for image {int(wrong[0])}"
        raise DataError(
            f"{folder / f'{part}_y.bin'} should hold labels 1 ... 10, but holds {label}: fetch it again"
        )
    reason = f"27,648 for each of the {len(stated):,} labels of {part}_y.bin"
    photos = _images(folder / f"{part}_X.bin", len(stated), reason)
    return Split(photos, stated.long() - 1, torch.arange(len(photos)))


def _images(path: Path, count: int, reason: str) -> OnDisk:
    """Return (N, 3, 96, 96) over the file, which stores each channel column by column."""
    file = File(path, 0, _rows(path, (count, 3, 96, 96), reason), (3, 96, 96), (0, 2, 1))
    return OnDisk([file], cache=cache_folder(None))


def cifar10(
    root: str | os.PathLike[str] | None = None,
    *,
    held_out: HeldOut = 5000,
    per_class: int | None = None,
    seed: int = 0,
    unlabelled: bool = False,
    download: bool | Source = True,
) -> Data:
    """Return CIFAR-10: images uint8 (N, 3, 32, 32), ten classes, `held_out` of the training images as val.

    The files are read from cifar-10-batches-bin, and fetched when missing (170 MB, once), by `root` and
    `download` as in `stl10`. Without test_batch.bin, test is None. `held_out`, `per_class` and `seed` are as
    in `split`. `unlabelled=True` keeps, without their labels, the training images that `per_class` leaves
    over. Raises `DataError`.

    Reference: https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, 2009).

        data = cifar10("data", per_class=450, held_out=500, unlabelled=True)  # and 45,000 without labels
    """
    source = download if isinstance(download, Source) else CIFAR10
    folder = published(data_root(root), source, TRAIN, fetch=bool(download))
    whole = _batches([folder / name for name in TRAIN])
    train, val = split(whole, held_out, seed, per_class=per_class, classes=CIFAR10_CLASSES)
    rest = left_over(whole, train, val) if unlabelled else None
    test = _batches([folder / "test_batch.bin"]) if os.path.exists(folder / "test_batch.bin") else None
    official = ((whole, 50_000, "data_batch_1 ... 5.bin hold"), (test, 10_000, "test_batch.bin holds"))
    notes = tuple(
        f"{files} {len(part):,} images, the published {count:,}"
        for part, count, files in official
        if part is not None and len(part) != count
    )
    return remarked(Data(train, val, test, CIFAR10_CLASSES, "cifar10", rest, notes))


def _batches(paths: list[Path]) -> Split:
    """Return the images and labels of these files, one after another."""
    batches = [
        _mapped(path, (-1, ROW), reason="a label and 3,072 pixel values for each image") for path in paths
    ]
    for path, batch in zip(paths, batches):
        if int(batch[:, 0].max()) >= len(CIFAR10_CLASSES):
            wrong = int(batch[:, 0].max())
            raise DataError(f"{path} should hold labels 0 ... 9, but holds {wrong}: fetch it again")
    labels = torch.cat([batch[:, 0] for batch in batches]).long()
    images = torch.cat([batch[:, 1:].view(-1, 3, 32, 32) for batch in batches])
    return Split(images, labels, torch.arange(len(images)))


def _mapped(path: Path, shape: Sequence[int], *, reason: str) -> Tensor:
    """Return a file as uint8 of this shape, mapped privately: read when looked at, never written.

    -1 as the first length stands for as many as there are. Raises `DataError` naming file, size expected
    and found, with the `reason` for what is expected.
    """
    rows = _rows(path, shape, reason)
    try:
        size = rows * torch.Size(shape[1:]).numel()
        whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    except RuntimeError:
        raise _lost(path, "it cannot be opened") from None
    return whole.view(rows, *shape[1:])


def _rows(path: Path, shape: Sequence[int], reason: str) -> int:
    """Return how many rows a file has that holds these and nothing else."""
    each = torch.Size(shape[1:]).numel()
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _lost(path, error.strerror or "not a file") from None
    rows = size // each if shape[0] == -1 else shape[0]
    if size != rows * each or rows == 0:
        expected = f"a multiple of {each:,} bytes" if shape[0] == -1 else f"{rows * each:,} bytes"
        raise DataError(
            f"{path} should hold {expected} ({reason}), but holds {size:,}: delete it and fetch it again"
        )
    return rows


def _lost(path: Path, reason: str) -> DataError:
    return DataError(f"{path} cannot be read ({reason}): see that the file is there and yours to read")


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

    The files are read from tiny-imagenet-200, and fetched when missing (248 MB, once), by `root` and
    `download` as in `stl10`, and stored decoded as `folder` stores photos. `held_out`, `per_class` and `seed`
    are as in `split`. Raises `DataError`.

    Reference: http://cs231n.stanford.edu/reports/2015/pdfs/yle_project.pdf (Le and Yang, 2015).

        data = tiny_imagenet("data", held_out=10_000)
    """
    photos = listing(_set_folder(data_root(root), download))
    if "val" not in photos.parts:
        raise DataError(
            f"{photos.root} should hold the official validation images in val, and holds none: fetch the set "
            "again, or read it by folder(..., size=64, held_out=0.1)"
        )
    photos = replace(
        photos, findings=tuple(finding for finding in photos.findings if not _as_published(finding))
    )
    splits, findings = parts(photos, Storing(SIZE))
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


def _set_folder(root: Path, download: bool | Source) -> Path:
    """Return the folder of the set, whole or smaller, that is there, else the published one, fetched."""
    source = download if isinstance(download, Source) else TINY_IMAGENET
    for folder in (root / source.folder, root):
        if any(re.fullmatch(r"n\d{8}", each.name) for each in (folder / "train").glob("n*")):
            return folder
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
