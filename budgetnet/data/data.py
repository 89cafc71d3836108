"""Data: the splits of one set with their classes, and what is worth knowing of them, such as duplicates."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from budgetnet.data.disk import OnDisk, chunks
from budgetnet.data.folds import dealt
from budgetnet.data.kinds import DataError, Finding, Remark, sentences
from budgetnet.data.labels import class_difference, listed
from budgetnet.data.splits import Split, concatenated
from budgetnet.text import counted
from budgetnet.values import whole as whole_number

DARK = 16
"""Pixels of a split that has none above this are nearly black: 16 is the brightest of 12 bits read as 16."""


class Duplicate(NamedTuple):
    """The same image twice: at position `first_at` of one split and at `second_at` of another."""

    first: str
    first_at: int
    second: str
    second_at: int


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """What to train on, what to choose by, what to be judged by, and the names of the classes.

    `val`, `test` and `unlabelled` may be absent. `shape` says how photos came to the sides of the images: the
    largest part at the centre ("crop") or the whole ("squash"), as `predict` then reads others. `notes` are
    sentences worth showing before training, and `findings` name every file that they are about. Raises
    `DataError` unless all splits share C, H and W, and all labels lie within the classes.
    """

    train: Split
    val: Split | None
    test: Split | None
    classes: tuple[str, ...]
    name: str
    unlabelled: Split | None = None
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    shape: Literal["crop", "squash"] = "crop"

    def __post_init__(self) -> None:
        if self.shape not in ("crop", "squash"):
            raise DataError(f'shape is "crop" or "squash", but found {self.shape!r:.40}')
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise DataError(f"classes are one or more different names, but found {self.classes}")
        for name, split in self.splits.items():
            if len(split) == 0:
                raise DataError(f"{name} holds no images: a part that is not there is None")
            if split.shape[1:] != self.train.shape[1:]:
                sizes = ["x".join(map(str, part.shape[1:])) for part in (split, self.train)]
                raise DataError(
                    f"{name} has images of {sizes[0]}, train of {sizes[1]}: store both at one size"
                )
            low, high = int(split.labels.min()), int(split.labels.max())
            if high >= len(self.classes) or low < (-1 if name == "unlabelled" else 0):
                worst = high if high >= len(self.classes) else low
                raise DataError(
                    f"{name} has a label {worst}, outside 0 ... {len(self.classes) - 1} of its classes"
                )
        self._name()

    def _name(self) -> None:
        """Tell each split its classes; labels that count in others are carried over by name.

        Names that are all new are a renaming, unless the splits know different ones.
        """
        known = {split.classes for split in self.splits.values()} - {()}
        for name, split in self.splits.items():
            if split.classes == self.classes:
                continue
            shared = set(split.classes) & set(self.classes)
            kept = all(one == other for one, other in zip(split.classes, self.classes) if one in shared)
            renamed = len(known) == 1 and kept and shared != set(split.classes)
            try:
                alone = renamed or not split.classes
                named = replace(split, classes=self.classes) if alone else split.named(self.classes)
            except DataError:
                how = class_difference(split.classes, self.classes)
                raise DataError(
                    f"{name} has other classes than the data ({how}): give splits of the same ones, here "
                    f"{listed(self.classes)}"
                ) from None
            object.__setattr__(self, name, named)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(split):,} {name}" for name, split in self.splits.items())
        shown = ", ".join(self.classes[:3]) + (", ..." if len(self.classes) > 3 else "")
        size = "x".join(str(side) for side in self.train.shape[1:])
        return f"Data({self.name}: {sizes}; {len(self.classes)} classes {shown}; {size})"

    def in_memory(self) -> "Data":
        """Return the data with the images of each split in memory, as far as they fit there."""
        return replace(self, **{name: part.in_memory() for name, part in self.splits.items()})  # type: ignore[arg-type]

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that are there, by name."""
        parts = {"train": self.train, "val": self.val, "test": self.test, "unlabelled": self.unlabelled}
        return {name: split for name, split in parts.items() if split is not None}

    def duplicates(self) -> tuple[Duplicate, ...]:
        """Return the images of val and test that occur, byte for byte, in a split before them too.

        One pair for each such image and earlier split, with the first occurrence there. The unlabelled
        images are left out.
        """
        return tuple(pair for pair in repeated(self.splits) if pair.first != pair.second)

    def overlaps(self) -> tuple[str, ...]:
        """Return a sentence for each two splits that share images byte for byte: how many, and one such."""
        return (*overlaps(self.duplicates()), *grouped_overlaps(self.splits))

    def folds(self, k: int, *, seed: int = 0) -> "tuple[Data, ...]":
        """Return k data: each image of train and val in the val of one of them, and in train of the others.

        Classes are in proportion; with groups each group is in one val, and images that are the last of their
        class, or in its only group, are in train always. The draw depends on the images and on `seed`, not on
        what was held out before. Raises `DataError`, also where only one of train and val has groups.

            for fold in data.folds(5):
                run = Trainer().fit(build(), fold, recipe)
        """
        whole_number("folds", k, 2)
        if self.val is not None and (self.train.groups is None) != (self.val.groups is None):
            has, lacks = ("val", "train") if self.train.groups is None else ("train", "val")
            raise DataError(
                f"{has} has groups and {lacks} has none, and nobody can tell whose images {lacks} holds: "
                "give both theirs, or leave val out, for folds hold images out themselves"
            )
        whole = self.train if self.val is None else concatenated(self.train, self.val)
        if len(set(whole.indices.tolist())) == len(whole):
            whole = whole.subset(whole.indices.argsort())
        else:
            whole = replace(whole, indices=torch.arange(len(whole)))
        stale = ("missing class", "imbalance", "in two splits", "duplicate", "two labels")
        findings = tuple(finding for finding in self.findings if finding.kind not in stale)
        base = replace(self, notes=sentences(findings), findings=findings)
        made = []
        for held in dealt(whole.labels.tolist(), whole.groups, k, seed):
            stays = torch.ones(len(whole), dtype=torch.bool)
            stays[held] = False
            made.append(remarked(replace(base, train=whole.subset(stays), val=whole.subset(held))))
        return tuple(made)


def grouped_overlaps(splits: Mapping[str, Split]) -> tuple[str, ...]:
    """Return a sentence for each two splits that share groups."""
    groups = {name: set(part.groups or ()) for name, part in splits.items() if name != "unlabelled"}
    notes = []
    for first, second in itertools.combinations(groups, 2):
        shared = sorted(groups[first] & groups[second])
        if shared:
            text = f"{counted(len(shared), 'group')} in both {first} and {second} ({listed(shared)})"
            notes.append(Remark(f"{text}; what is learnt of a group counts as recognised there", "overlap"))
    return tuple(notes)


def repeated(splits: Mapping[str, Split]) -> tuple[Duplicate, ...]:
    """Return the images that occur, byte for byte, before in their own split, or in one before it.

    One pair for each such image and split, with the first occurrence there. The split named "unlabelled" is
    left out.
    """
    listed = {name: list(split.digests()) for name, split in splits.items() if name != "unlabelled"}
    if len(set().union(*listed.values())) == sum(map(len, listed.values())):
        return ()
    pairs: list[Duplicate] = []
    seen: dict[str, dict[bytes, int]] = {}
    for name, digests in listed.items():
        here = seen[name] = {}
        for position, digest in enumerate(digests):
            pairs += [
                Duplicate(earlier, known[digest], name, position)
                for earlier, known in seen.items()
                if digest in known
            ]
            here.setdefault(digest, position)
    return tuple(pairs)


def overlaps(shared: Sequence[Duplicate]) -> tuple[str, ...]:
    """Return a sentence for each two splits of these pairs: how many images they share, and one such."""
    pairs: dict[tuple[str, str], list[Duplicate]] = {}
    for pair in shared:
        pairs.setdefault((pair.first, pair.second), []).append(pair)
    return tuple(_overlap(*names, some) for names, some in pairs.items() if names[0] != names[1])


def _overlap(first: str, second: str, shared: Sequence[Duplicate]) -> Remark:
    images = "1 image occurs" if len(shared) == 1 else f"{len(shared):,} images occur"
    example = f"for one {first}[{shared[0].first_at}] = {second}[{shared[0].second_at}]"
    so = "; what is learnt by heart counts as recognised there" if first == "train" else ""
    return Remark(f"{images} in both {first} and {second}, byte for byte ({example}){so}", "overlap")


# The largest class has so many times the images of a rare one.
RARE = 10


def remarked(data: Data) -> Data:
    """Return the data with notes on duplicates across splits and on classes that train lacks.

    Where images have names, those that occur twice within a split and rare classes are noted and named too.
    """
    pairs = repeated(data.splits)
    dark = [note for name, part in data.splits.items() for note in nearly_black(part.images, name)]
    notes = [*data.notes, *dark, *overlaps(pairs), *grouped_overlaps(data.splits)]
    findings = list(data.findings)
    if data.train.names is not None:
        odd = [*twice(data.splits, data.classes, pairs), *rare(data.train, data.classes)]
        notes += sentences(finding for finding in odd if finding.kind != "in two splits")
        findings += odd
    counts = data.train.counts(len(data.classes))
    empty = [f"'{name}'" for name, count in zip(data.classes, counts) if count == 0]
    if empty:
        more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
        notes.append(f"no training image is of class {', '.join(empty[:3])}{more}")
    return replace(data, notes=tuple(notes), findings=tuple(findings))


def nearly_black(images: Tensor | OnDisk, name: str) -> list[str]:
    """Return a sentence where no pixel is bright: of masks, of 12 bits read as 16, of a second division."""
    most = 0
    for chunk in chunks(images):
        most = max(most, int(chunk.max()))
        if most > DARK:
            return []
    way = f": where {most} stands for white, multiply by {255 / most:.4g}" if most else ""
    return [f"{name} is nearly black, with no pixel above {most} of 255{way}"]


def twice(splits: Mapping[str, Split], classes: Sequence[str], pairs: Sequence[Duplicate]) -> list[Finding]:
    """Return a finding for each image that occurs before, and another where it has another label there."""
    findings = []
    for pair in pairs:
        first, second = splits[pair.first], splits[pair.second]
        name, other = _name(second, pair.second, pair.second_at), _name(first, pair.first, pair.first_at)
        labels = int(first.labels[pair.first_at]), int(second.labels[pair.second_at])
        if pair.first != pair.second:
            findings.append(Finding("in two splits", name, f"= {other} of {pair.first}"))
        elif labels[0] == labels[1]:
            findings.append(Finding("duplicate", name, f"= {other}"))
        if labels[0] != labels[1]:
            findings.append(Finding("two labels", name, f"= {other} of class '{classes[labels[0]]}'"))
    return findings


def _name(split: Split, part: str, at: int) -> str:
    return split.names[at] if split.names is not None else f"{part}[{at}]"


def rare(train: Split, classes: Sequence[str]) -> list[Finding]:
    """Return the classes of which there are few training images, beside the largest."""
    counts = train.counts(len(classes))
    most = max(counts)
    largest = classes[counts.index(most)]
    return [
        Finding("imbalance", name, f"{count:,} images, '{largest}' has {most:,}")
        for name, count in zip(classes, counts)
        if 0 < count <= most / RARE
    ]


def undrawn(whole: Split, drawn: Split | None, classes: Sequence[str]) -> list[Finding]:
    """Return the classes of the whole that what was drawn of it, if anything, has no image of."""
    if drawn is None:
        return []
    return unheld(whole.counts(len(classes)), drawn.counts(len(classes)), classes)


def unheld(counts: Sequence[int], held: Sequence[int], classes: Sequence[str]) -> list[Finding]:
    """Return the classes of which there are so many images, and none among those that are held out."""
    return [
        Finding("missing class", name, f"none of {counted(count, 'image')} is held out as val")
        for name, count, out in zip(classes, counts, held)
        if count and not out
    ]
