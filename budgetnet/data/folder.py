"""Data out of a folder of photos, one subfolder for each class."""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from budgetnet.data.choose import HeldOut, left_over, split
from budgetnet.data.error import DataError
from budgetnet.data.listing import Listing, listing
from budgetnet.data.source import data_root
from budgetnet.data.splits import Data, Split, remarked

if TYPE_CHECKING:
    from budgetnet.data.store import Stored


def folder(
    root: str | os.PathLike[str] | None = None,
    *,
    size: int,
    held_out: HeldOut = None,
    per_class: int | None = None,
    seed: int = 0,
    unlabelled: bool = False,
    unreadable: Literal["skip", "refuse"] = "skip",
    shape: Literal["crop", "squash"] = "crop",
    cache: str | os.PathLike[str] | None = None,
) -> Data:
    """Return the photos in class folders as images uint8 (N, 3, size, size), classes in order of their names.

    `root` holds train, and perhaps val (valid, validation) and test, with class folders in each, or class
    folders alone; a relative `root` that is not here is looked for in BUDGETNET_DATA. Without a val folder,
    `held_out` of the training photos (a fifth by default; 0 for none) become val. Photos of any size and
    mode become RGB: the largest square at the centre ("crop") or the whole ("squash"), resized with
    antialias. They are stored once, in `cache` (else $XDG_CACHE_HOME/budgetnet, else ~/.cache/budgetnet),
    and mapped into memory. Files that cannot be read are counted in the notes and skipped, or refused.
    `held_out`, `per_class` and `seed` are as in `split`; indices count the files of a part in order.
    `unlabelled=True` keeps the training photos that `per_class` leaves over, without their labels. Raises
    `DataError`.

        data = folder("photos", size=128, held_out=0.1)
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise DataError(f"size is the side of the stored images in pixels, from 1, but found {size!r}")
    if shape not in ("crop", "squash") or unreadable not in ("skip", "refuse"):
        raise DataError(
            f'shape is "crop" or "squash", unreadable "skip" or "refuse", found {shape!r}, {unreadable!r}'
        )
    found = listing(_place(root))
    if "val" in found.parts and held_out is not None:
        raise DataError(
            f"{found.root} has a val folder and held_out={held_out!r} was given: leave held_out out"
        )
    splits, notes = parts(found, size, squash=shape == "squash", unreadable=unreadable, cache=cache)
    whole, val = splits["train"], splits.get("val")
    share = held_out if held_out is not None or val is not None else 0.2
    train, drawn = split(whole, share, seed, per_class=per_class, classes=found.classes)
    rest = left_over(whole, train, drawn) if unlabelled else None
    name = found.root.resolve().name
    return remarked(Data(train, val or drawn, splits.get("test"), found.classes, name, rest, notes))


def parts(
    found: Listing,
    size: int,
    *,
    squash: bool = False,
    unreadable: Literal["skip", "refuse"] = "skip",
    cache: str | os.PathLike[str] | None = None,
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Return the parts of a listing with their images uint8 (N, 3, size, size), and notes on what is missing.

    The photos are decoded once and stored in `cache`, as `folder` says. Raises `DataError`.
    """
    # Pillow is imported with it, which only those who have photos should wait for.
    from budgetnet.data.store import stored

    files = [file for part in found.parts.values() for file in part]
    kept = stored(found.root, files, size, squash=squash, cache=_cache(cache))
    notes = found.notes
    if kept.unreadable:
        sentence = _unreadable([file.path for file in files], kept.unreadable)
        if unreadable == "refuse":
            raise DataError(f'{sentence}: mend or remove them, or pass unreadable="skip"')
        notes += (f"{sentence}, and were skipped",)
    return _splits(found, kept), notes


def _place(root: str | os.PathLike[str] | None) -> Path:
    """Return where the photos lie: as named, or under the folder that holds data."""
    if root is None:
        return data_root(None)
    here = Path(root).expanduser()
    there = data_root(None) / here
    return there if not here.exists() and there.is_dir() else here


def _cache(cache: str | os.PathLike[str] | None) -> Path:
    if cache is not None:
        return Path(cache).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "budgetnet"


def _unreadable(paths: list[str], reasons: dict[int, str]) -> str:
    """Return how many photos cannot be read, and the first few with their reasons."""
    shown = ", ".join(f"{paths[position]} ({reason})" for position, reason in list(reasons.items())[:3])
    # A name that is not UTF-8 could not be printed everywhere.
    shown = shown.encode(errors="backslashreplace").decode()
    more = ", ..." if len(reasons) > 3 else ""
    return f"{len(reasons):,} of {len(paths):,} photos cannot be read: {shown}{more}"


def _splits(found: Listing, kept: "Stored") -> dict[str, Split]:
    """Return the parts, each a stretch of the stored images, less the files that could not be read."""
    splits: dict[str, Split] = {}
    first, row = 0, 0
    for name, files in found.parts.items():
        read = [place for place in range(len(files)) if first + place not in kept.unreadable]
        if name == "train":
            left = Counter(files[place].label for place in read)
            for label, wanted in enumerate(found.classes):
                if not left[label]:
                    lost = next(place for place, file in enumerate(files) if file.label == label)
                    reason = f"{files[lost].path} ({kept.unreadable[lost]})"
                    raise DataError(f"none of the photos of class '{wanted}' can be read, such as {reason}")
        if read:
            splits[name] = Split(
                kept.images[row : row + len(read)],
                torch.tensor([files[place].label for place in read]),
                torch.tensor(read),
                tuple(files[place].path for place in read),
            )
        first, row = first + len(files), row + len(read)
    return splits
