"""Data out of a folder of photos, one subfolder for each class."""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, Unpack

import torch

from budgetnet.data.choose import HeldOut, fifth, left_over, split
from budgetnet.data.data import Data, remarked, undrawn
from budgetnet.data.kinds import UNREADABLE, DataError, Finding, Remark, sentences
from budgetnet.data.labels import group_of
from budgetnet.data.listing import Listing, file_at, listing
from budgetnet.data.source import cache_folder, data_root
from budgetnet.data.splits import Split
from budgetnet.data.walk import walk
from budgetnet.values import nearest, one_of, whole

if TYPE_CHECKING:
    from budgetnet.data.photos import Stored


Root: TypeAlias = str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None
"""A folder, or those of train, val and test by these names."""


class Reading(TypedDict, total=False):
    """How photos are read and stored, as `folder` says."""

    channels: Literal[1, 3]
    unreadable: Literal["skip", "refuse"]
    shape: Literal["crop", "squash"]
    cache: str | os.PathLike[str] | None


class Options(Reading, total=False):
    """The options that `folder` and `table` share, as `folder` says."""

    held_out: HeldOut
    per_class: int | None
    seed: int
    unlabelled: bool | str | os.PathLike[str]
    groups: str | Callable[[str], object] | None


def folder(root: Root = None, *, size: int, **options: Unpack[Options]) -> Data:
    """Return the photos in class folders as images uint8 (N, 3, size, size), classes in order of their names.

    `root` holds train, and perhaps val and test, by these names or others that are common (Training,
    validation, dev, test_set, in any case), with class folders in each, or class folders alone. A mapping
    says it outright: {"train": "photos/a", "test": "photos/b"}, or {"train": "photos"} where no folder in
    photos is a part. A relative `root` that is not here is looked for in BUDGETNET_DATA. Without a val
    folder, `held_out` of the training photos (a fifth by default; 0 for none) become val. Photos of any size
    and mode become RGB: the largest square at the centre ("crop") or the whole ("squash"), resized with
    antialias. They are stored once, in `cache` (else $XDG_CACHE_HOME/budgetnet, else ~/.cache/budgetnet),
    and read into memory where they fit (see docs/data.md), else batch by batch as they are needed. Files
    that cannot be read are skipped, or refused; what is odd about the others and about the folders has a
    policy of its own (see docs/data.md), and all of it is named in the notes. `channels=1` makes greys of
    them, (N, 1, size, size).
    `held_out`, `per_class` and `seed` are as in `split`; indices count the files of a part in order.
    `unlabelled=True` keeps the training photos that `per_class` leaves over, without their labels, and a
    folder has photos without labels of its own, at any depth. `groups`
    says what a photo belongs to, as a function of its path below the root, or as a pattern, what that finds
    there ("patient[0-9]+"): then whole groups are held out. Raises `DataError`.

        data = folder("photos", size=128, held_out=0.1)
    """
    check_given("folder", size, options)
    return labelled(listing(photo_root(root)), size, **options)


def check_given(function: str, size: object, options: Mapping[str, object]) -> None:
    """Refuse options that cannot be, and with a TypeError those that there are not."""
    for name in set(options) - set(Options.__annotations__):
        raise TypeError(f"{function} has no argument {name!r}{nearest(name, list(Options.__annotations__))}")
    reading = {name: options[name] for name in ("shape", "unreadable", "channels") if name in options}
    check_options(size, **reading)


def labelled(
    photos: Listing,
    size: int,
    *,
    held_out: HeldOut = None,
    per_class: int | None = None,
    seed: int = 0,
    unlabelled: bool | str | os.PathLike[str] = False,
    groups: str | Callable[[str], object] | None = None,
    **reading: Unpack[Reading],
) -> Data:
    """Return the photos of a listing as data, as `folder` says. Raises `DataError`."""
    shape, unreadable = reading.get("shape", "crop"), reading.get("unreadable", "skip")
    storing = Storing(size, shape == "squash", reading.get("channels", 3), reading.get("cache"))
    if "val" in photos.parts and held_out is not None:
        where = f"{photos.root} has a val folder" if not photos.table else f"{photos.table} has rows of val"
        raise DataError(f"{where} and held_out={held_out!r} was given: leave held_out out")
    photos = photos if groups is None else with_groups(photos, groups)
    splits, findings = parts(photos, storing, unreadable=unreadable)
    training, val = splits["train"], splits.get("val")
    share = (
        held_out if held_out is not None or val is not None else fifth(training.counts(len(photos.classes)))
    )
    train, drawn = split(training, share, seed, per_class=per_class, classes=photos.classes)
    findings = (*findings, *undrawn(training, drawn, photos.classes))
    rest = left_over(training, train, drawn) if unlabelled is True else None
    notes = remarks(photos, findings)
    if not isinstance(unlabelled, bool):
        rest, odd, more = _unlabelled(existing(unlabelled), storing)
        findings, notes = (*findings, *odd), (*notes, *more)
    test = splits.get("test")
    data = Data(train, val or drawn, test, photos.classes, photos.name, rest, notes, findings, shape)
    return remarked(data).in_memory()


def _unlabelled(root: Path, storing: "Storing") -> tuple[Split, tuple[Finding, ...], tuple[str, ...]]:
    """Return the photos below a folder, without labels, what is odd about them, and notes on it."""
    if not root.is_dir():
        raise DataError(f"unlabelled should be True or a folder of photos, and {root} is none: name it")
    walked = walk(root, root)
    files = tuple(file_at(root, path, -1) for path in walked.photos)
    photos = Listing(root, (), {"unlabelled": files}, walked.findings)
    splits, findings = read(photos, storing)
    if "unlabelled" not in splits:
        raise DataError(f"the folder {root} of unlabelled photos holds none that can be read: fill it")
    return splits["unlabelled"], findings, remarks(photos, findings)


def with_groups(photos: Listing, groups: str | Callable[[str], object]) -> Listing:
    """Return the listing with the group of each photo. Raises `DataError`."""
    try:
        re.compile(groups if isinstance(groups, str) else "")
    except re.error as error:
        raise DataError(
            f"groups should be a pattern such as 'patient[0-9]+', not {groups!r:.60}: {error}"
        ) from None

    def group(path: str) -> str:
        found = re.search(groups, path) if isinstance(groups, str) else groups(path)
        if isinstance(found, re.Match):
            found = found[1] if found.re.groups else found[0]
        if found is None or found == "":
            raise DataError(f"groups should find a group in the path of each photo, and finds none in {path}")
        return group_of(found, path)

    parts = {
        name: tuple(replace(file, group=group(file.path)) for file in files)
        for name, files in photos.parts.items()
    }
    return replace(photos, parts=parts)


def check_options(
    size: object, shape: object = "crop", unreadable: object = "skip", channels: object = 3
) -> None:
    """Refuse, with a `DataError`, what photos cannot be stored by."""
    try:
        whole("size", size)
        one_of("shape", shape, ("crop", "squash"))
        one_of("unreadable", unreadable, ("skip", "refuse"))
        if channels not in (1, 3):
            raise ValueError(f"channels of photos should be 3 for colours or 1 for greys, not {channels!r}")
    except ValueError as error:
        raise DataError(str(error)) from None


@dataclass(frozen=True)
class Storing:
    """How photos are stored: of which size and of how many channels, squeezed or cropped, in which cache."""

    size: int
    squash: bool = False
    channels: Literal[1, 3] = 3
    cache: str | os.PathLike[str] | None = None


def parts(
    photos: Listing, storing: Storing, *, unreadable: Literal["skip", "refuse"] = "skip"
) -> tuple[dict[str, Split], tuple[Finding, ...]]:
    """Return the parts of a listing with their images uint8 (N, C, size, size), and all that is odd.

    The photos are decoded once and stored in the cache, as `folder` says. Raises `DataError` for a class of
    which nothing can be read, and as `unreadable` says.
    """
    splits, findings = read(photos, storing)
    lost = _lost(photos, findings)
    if lost and unreadable == "refuse":
        raise DataError(f'{_unreadable(photos, lost)}: mend or remove them, or pass unreadable="skip"')
    for finding in findings:
        if finding.policy == "refused":
            raise DataError(finding.detail)
    return splits, findings


def read(photos: Listing, storing: Storing) -> tuple[dict[str, Split], tuple[Finding, ...]]:
    """Return what `parts` does, with what it refuses among the findings."""
    # Pillow is imported with it, which only those who have photos should wait for.
    from budgetnet.data.photos import stored

    files = [file for part in photos.parts.values() for file in part]
    decoded = stored(
        photos.root,
        files,
        storing.size,
        squash=storing.squash,
        cache=cache_folder(storing.cache),
        channels=storing.channels,
    )
    splits, findings = _splits(photos, decoded)
    odd = [one for one in decoded.findings(files) if storing.channels == 3 or one.kind != "greyscale"]
    return splits, (*photos.findings, *odd, *findings)


def remarks(photos: Listing, findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """Return the notes on a listing and its photos: first on the folders, then on what cannot be read."""
    lost = _lost(photos, findings)
    named = {*photos.findings, *lost}
    rest = [finding for finding in findings if finding not in named]
    broken = (Remark(f"{_unreadable(photos, lost)}, and were skipped", "files"),) if lost else ()
    return (*sentences(photos.findings), *broken, *sentences(rest))


def photo_root(root: Root) -> Path | dict[str, Path]:
    """Return where the photos, or those of each part, lie: as named, or under the folder that holds data."""
    if isinstance(root, Mapping):
        return {name: existing(folder) for name, folder in root.items()}
    return data_root(None) if root is None else existing(root)


def existing(folder: object, what: str = "a folder of photos") -> Path:
    """Return a path as named, or below the folder that holds data, where it is there. Raises `DataError`."""
    if not isinstance(folder, str | os.PathLike):
        is_frame = hasattr(folder, "to_csv")
        way = "save it first: df.to_csv('labels.csv', index=False)" if is_frame else "give it as text"
        given = f"a {type(folder).__name__}" if is_frame else f"{folder!r:.60}"
        raise DataError(f"{what} should be named by its path, not {given}: {way}")
    here = Path(folder).expanduser()
    there = data_root(None) / here
    return there if not here.exists() and there.exists() else here


def _lost(photos: Listing, findings: tuple[Finding, ...]) -> list[Finding]:
    """Return why photos give no image; links and other files that are no photos are the listing's."""
    listed = set(photos.findings)
    return [finding for finding in findings if finding.kind in UNREADABLE and finding not in listed]


def _unreadable(photos: Listing, lost: list[Finding]) -> str:
    """Return how many photos cannot be read, and the first of each kind with its reason."""
    firsts = list({finding.kind: finding for finding in reversed(lost)}.values())[::-1]
    named = firsts + [finding for finding in lost if finding not in firsts][: max(0, 3 - len(firsts))]
    examples = ", ".join(map(str, named)) + (", ..." if len(lost) > len(named) else "")
    return f"{len(lost):,} of {sum(map(len, photos.parts.values())):,} photos cannot be read: {examples}"


def _splits(photos: Listing, decoded: "Stored") -> tuple[dict[str, Split], list[Finding]]:
    """Return the parts, each a stretch of the stored images, and the classes that have none there."""
    splits: dict[str, Split] = {}
    findings = []
    first, row = 0, 0
    unreadable = decoded.unreadable
    for name, files in photos.parts.items():
        read = [index for index in range(len(files)) if first + index not in unreadable]
        left, listed = (Counter(files[k].label for k in indices) for indices in (read, range(len(files))))
        for label, title in enumerate(photos.classes):
            if left[label]:
                continue
            if name != "train":
                findings.append(Finding("missing class", title, f"{name} has no photo of it"))
            elif listed[label]:
                lost = next(index for index, file in enumerate(files) if file.label == label)
                reason = f"{files[lost].path} ({unreadable[lost][1]})"
                sentence = f"none of the photos of class '{title}' can be read, such as {reason}"
                findings.append(Finding("unreadable class", title, sentence))
        if read:
            splits[name] = Split(
                decoded.images.at(torch.arange(row, row + len(read))),
                torch.tensor([files[index].label for index in read]),
                torch.tensor(read),
                tuple(files[index].path for index in read),
                groups=tuple(files[index].group for index in read) if files[0].group else None,
            )
        first, row = first + len(files), row + len(read)
    return splits, findings
