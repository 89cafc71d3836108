"""Which images a run was trained on, as short hashes that lie beside its weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from budgetnet.data import Data, Split
from budgetnet.files import read_sealed, seal, write_whole

SEEN = "seen.safetensors"
"""The file in a run's folder: one tensor "train", int64 (n,), rising, each once."""


def image_hashes(split: Split, *more: Split) -> Tensor:
    """The hashes of all different images of these splits, int64 (n,), rising; labels do not count.

    A hash is the first 8 bytes of the SHA-256 of an image's pixels, read as a little-endian number: among a
    million images two different ones share theirs once in 40 million times.
    """
    digests = b"".join(digest[:8] for part in (split, *more) for digest in part.digests())
    hashes: Tensor = torch.unique(torch.from_numpy(np.frombuffer(digests, "<i8").astype(np.int64)))
    return hashes


def trained_on(split: Split, hashes: Tensor) -> int:
    """How many images of `split` are among `hashes` (of `image_hashes`), byte for byte."""
    own = np.frombuffer(b"".join(digest[:8] for digest in split.digests()), "<i8").astype(np.int64)
    return int(torch.isin(torch.from_numpy(own), hashes.cpu()).sum())


def learnt_before(data: Data, hashes: Tensor) -> Iterator[tuple[str, str]]:
    """Each of val and test with images among those hashed, and how many: "3 of the 9 test images were"."""
    for name, words in (("val", "validation"), ("test", "test")):
        split = data.splits.get(name)
        count = trained_on(split, hashes) if split is not None else 0
        if split is not None and count:
            were = "was" if count == 1 else "were"
            yield name, f"{count:,} of the {len(split):,} {words} images {were}"


def write_seen(folder: str | Path, hashes: Tensor) -> Path:
    """Write `hashes` into a run's folder, whole or not at all, with those that lie there already."""
    path = Path(folder) / SEEN
    before = read_seen(folder)
    together = hashes.cpu() if before is None else torch.cat([before, hashes.cpu()])
    write_whole(path, seal({"train": torch.unique(together)}, {}))
    return path


def read_seen(folder: str | Path) -> Tensor | None:
    """The hashes of the images that the run in `folder` was trained on, or None where it did not keep them.

    Raises ValueError for a file that is damaged or of another kind.
    """
    path = Path(folder) / SEEN
    if not path.exists():
        return None
    try:
        stored = read_sealed(path)
        entries = [(name, stored.kinds[name], len(shape)) for name, shape in stored.shapes.items()]
        if entries != [("train", "I64", 1)]:
            raise ValueError(f"its one tensor should be train, int64 (n,), and it holds {str(entries)[:80]}")
        return stored.tensors()["train"]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} should hold the hashes of a run's training images, and cannot be read ({error}); "
            "delete it, and the guard goes by fingerprints"
        ) from None
