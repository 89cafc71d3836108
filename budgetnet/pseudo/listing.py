"""What was kept as a CSV file that people can read, and back."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from budgetnet.data import Split
from budgetnet.files import read_whole, write_whole
from budgetnet.pseudo.joining import called
from budgetnet.pseudo.keeping import Kept, check_within

_COLUMNS = ("label", "confidence", "threshold", "temperature")
_SPARE, _LONGEST_ROW = 2**16, 2048
"""Bytes of a list that are read at most, and for each unlabelled image."""


def write_csv(path: str | Path, kept: Kept, unlabelled: Split, classes: Sequence[str]) -> None:
    """List what was kept, whole or not at all: columns file (or index, where the split has no names), label
    (the class's name), confidence, threshold, temperature.

    Raises ValueError when `kept` does not fit the split or the classes, names that are not unique, and a file
    that cannot be written.
    """
    column, names = _called(unlabelled)
    check_within(kept, unlabelled)
    if len(kept) and int(kept.labels.max()) >= len(classes):
        raise ValueError(
            f"a kept label is {int(kept.labels.max())}, and {len(classes)} classes are named: name all"
        )
    text = io.StringIO(newline="")
    # An unquoted carriage return in a name would end the line for whoever reads it.
    quoting: Any = csv.QUOTE_ALL if any("\r" in name for name in (*names, *classes)) else csv.QUOTE_MINIMAL
    lines = csv.writer(text, lineterminator="\n", quoting=quoting)
    lines.writerow((column, *_COLUMNS))
    rows = zip(kept.positions.tolist(), kept.labels.tolist(), kept.confidence.numpy(), strict=True)
    for position, label, confidence in rows:
        # str of a float32 is the shortest that reads back as itself
        written = (names[position], classes[label], str(confidence), kept.threshold, kept.temperature)
        lines.writerow(written)
    file = Path(path)
    try:
        write_whole(file, text.getvalue().encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise ValueError(
            f"{file} cannot be written: {error.strerror or error}; choose another path"
        ) from None


def read_csv(path: str | Path, unlabelled: Split, classes: Sequence[str]) -> Kept:
    """What `write_csv` listed, or a list made elsewhere with at least its first three columns, as `Kept`.

    Threshold and temperature are NaN where the list has none, or no rows. Raises ValueError naming file and
    line for an image or class that is not there, an image listed twice, and numbers that are none.
    """
    file = Path(path)
    column, names = _called(unlabelled)
    positions = {name: position for position, name in enumerate(names)}
    known = {name: label for label, name in enumerate(classes)}
    rows: dict[int, tuple[int, float, float, float]] = {}
    for number, row in _rows(file, column, _SPARE + _LONGEST_ROW * len(unlabelled)):
        where = f"line {number} of {file}"
        if row[column] not in positions:
            raise ValueError(
                f"{where} names the {column} {row[column]!r:.200}, which is none of the {len(unlabelled):,} "
                "unlabelled images: read it with the split that it was written for"
            )
        position = positions[row[column]]
        if position in rows:
            raise ValueError(
                f"{where} lists the {column} {row[column]!r:.200} a second time: keep one of them"
            )
        if row["label"] not in known:
            raise ValueError(
                f"{where} has the label {row['label']!r:.200}, which is none of the classes "
                f"{', '.join(classes)[:80]}"
            )
        confidence, threshold, temperature = (_figure(row, name, where) for name in _COLUMNS[1:])
        rows[position] = known[row["label"]], confidence, threshold, temperature
    ordered = sorted(rows.items())
    settings = {row[2:] for _, row in ordered if not math.isnan(row[2] + row[3])}
    if len(settings) > 1:
        raise ValueError(f"{file} mixes several thresholds or temperatures: keep the rows of one of them")
    threshold, temperature = settings.pop() if settings else (math.nan, math.nan)
    return Kept(
        torch.tensor([position for position, _ in ordered], dtype=torch.int64),
        torch.tensor([row[0] for _, row in ordered], dtype=torch.int64),
        torch.from_numpy(np.array([row[1] for _, row in ordered], dtype=np.float32)),
        threshold,
        temperature,
    )


def _called(split: Split) -> tuple[str, tuple[str, ...]]:
    """The column that says which image it is, and what each is called there. Raises ValueError on doubles."""
    column, names = ("index" if split.names is None else "file"), called(split)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"two of the unlabelled images have the {column} {twice!r}: a list needs names of their own"
        )
    return column, names


def _rows(path: Path, column: str, most: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of a list by its columns' names, and the number of its last line."""
    try:
        text = read_whole(path, most).decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise ValueError(
            f"{path} should be a list of pseudo-labels, and cannot be read: {error.strerror}; write one with "
            "budgetnet.pseudo.write_csv, or name the one that you have"
        ) from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    try:
        for row in lines:
            if header is None:
                header = row
                needed = [column, *_COLUMNS[:2]]
                if not set(needed) <= set(header):
                    raise ValueError(
                        f"{path} should begin with the columns {','.join(needed)}, not {','.join(row)[:80]!r}"
                    )
            elif len(row) != len(header):
                if row:
                    raise ValueError(
                        f"line {lines.line_num} of {path} has {len(row)} columns and the first line "
                        f"{len(header)}: mend it, or write the list again"
                    )
            else:
                yield lines.line_num, dict(zip(header, row))
    except csv.Error as error:
        raise ValueError(
            f"line {lines.line_num} of {path} is no CSV: {error}; write the list again"
        ) from None
    if header is None:
        raise ValueError(f"{path} should be a list of pseudo-labels, and is empty")


def _figure(row: dict[str, str], name: str, where: str) -> float:
    """The number in a column; NaN where an optional one is not there."""
    try:
        figure = float(row.get(name, "nan"))
    except ValueError:
        figure = math.inf
    if math.isinf(figure) or (name == "confidence" and not 0 <= figure <= 1):
        expected = "a number in [0, 1]" if name == "confidence" else "a number"
        raise ValueError(f"{where} should have {expected} as {name}, not {row[name]!r:.80}")
    return figure
