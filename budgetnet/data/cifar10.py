"""CIFAR-10 as its publisher packs it for C programs: 32x32 photos, 50,000 to train and 10,000 to test."""

import os
from pathlib import Path

import torch

from budgetnet.data.binary import mapped
from budgetnet.data.choose import HeldOut, left_over, split
from budgetnet.data.error import DataError
from budgetnet.data.remarks import remarked
from budgetnet.data.source import Source, data_root, published
from budgetnet.data.splits import Data, Split

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10 = Source(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    limit=400_000_000,
)
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
ROW = 1 + 3 * 32 * 32


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

    The files are read from `root` (else BUDGETNET_DATA, else ./data), the folder with cifar-10-batches-bin
    or that folder itself, and fetched from the publisher when missing (170 MB, once; a `Source` as
    `download` names another place). Without test_batch.bin, test is None. `held_out`, `per_class` and
    `seed` are as in `split`. `unlabelled=True` keeps, without their labels, the training images that
    `per_class` leaves over. Raises `DataError`.

    Reference: https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, 2009).

        data = cifar10("data", per_class=450, held_out=500, unlabelled=True)  # and 45,000 without labels
    """
    source = download if isinstance(download, Source) else CIFAR10
    folder = published(data_root(root), source, TRAIN, fetch=bool(download))
    whole = _read([folder / name for name in TRAIN])
    train, val = split(whole, held_out, seed, per_class=per_class, classes=CLASSES)
    rest = left_over(whole, train, val) if unlabelled else None
    test = _read([folder / "test_batch.bin"]) if os.path.exists(folder / "test_batch.bin") else None
    official = ((whole, 50_000, "data_batch_1 ... 5.bin hold"), (test, 10_000, "test_batch.bin holds"))
    notes = tuple(
        f"{files} {len(part):,} images, the published {count:,}"
        for part, count, files in official
        if part is not None and len(part) != count
    )
    return remarked(Data(train, val, test, CLASSES, "cifar10", rest, notes))


def _read(paths: list[Path]) -> Split:
    """Return the images and labels of these files, one after another."""
    batches = [
        mapped(path, (-1, ROW), reason="a label and 3,072 pixel values for each image") for path in paths
    ]
    for path, batch in zip(paths, batches):
        if int(batch[:, 0].max()) >= len(CLASSES):
            wrong = int(batch[:, 0].max())
            raise DataError(f"{path} should hold labels 0 ... 9, but holds {wrong}: fetch it again")
    labels = torch.cat([batch[:, 0] for batch in batches]).long()
    images = torch.cat([batch[:, 1:].view(-1, 3, 32, 32) for batch in batches])
    return Split(images, labels, torch.arange(len(images)))
