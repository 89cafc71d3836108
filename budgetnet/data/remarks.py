"""What is worth knowing about loaded data: images that occur twice, classes that are missing or rare."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from budgetnet.data.data import Data, Duplicate, overlaps, repeated
from budgetnet.data.kinds import Finding, sentences
from budgetnet.data.splits import Split
from budgetnet.text import counted

# The largest class has so many times the images of a rare one.
RARE = 10


def remarked(data: Data) -> Data:
    """Return the data with notes on duplicates across splits and on classes that train lacks.

    Where images have names, those that occur twice within a split and rare classes are noted and named too.
    """
    pairs = repeated(data.splits)
    notes = [*data.notes, *overlaps(pairs)]
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


def _name(split: Split, part: str, place: int) -> str:
    return split.names[place] if split.names is not None else f"{part}[{place}]"


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


def unheld(counts: Sequence[int], held: Sequence[int], classes: Sequence[str]) -> list[Finding]:
    """Return the classes of which there are so many images, and none among those that are held out."""
    return [
        Finding("missing class", name, f"none of {counted(count, 'image')} is held out as val")
        for name, count, out in zip(classes, counts, held)
        if count and not out
    ]
