"""The rows of a table file, CSV or TSV, as text by column, whatever its encoding and its delimiter."""

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from budgetnet.data.kinds import DataError
from budgetnet.values import nearest

# Tables of labels of a million photos have some 50 MB.
BYTES = 1 << 30
DELIMITERS = ",\t;|"
# What is no text, by how it begins, and what it is.
OTHERS = {
    b"PK\x03\x04": "an Excel or zip file",
    b"PAR1": "a Parquet file",
    b"\xd0\xcf\x11\xe0": "an Excel file",
}
SHOWN = 8


@dataclass(frozen=True)
class Rows:
    """A table: its columns, and of each row the number of the line on which it ends, and its cells."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    encoding: str

    def at(self, column: str, what: str) -> int:
        """Return where a column stands; `what` is the argument that names it. Raises `DataError`."""
        if column in self.columns:
            return self.columns.index(column)
        near = nearest(column, self.columns)
        has = near or f"; it has {', '.join(self.columns[:SHOWN])}{', ...' * (len(self.columns) > SHOWN)}"
        raise DataError(f"{self.path} has no column {column!r}, which {what} names{has}")


def read_rows(path: Path) -> Rows:
    """Return the rows of a table whose first line names the columns.

    Its encoding is told by its byte order mark; else it is UTF-8 or, where it cannot be, Windows-1252. Cells
    are parted by commas, tabs, semicolons or bars, whichever the first line has most of, and stripped of
    blanks. Raises `DataError` for a file that cannot be read, and for rows that do not fit the first line.
    """
    text, encoding = _text(path)
    stated = re.match(r"sep=(.)\r?\n", text)
    first = re.sub(r'"[^"]*"', "", text[stated.end() if stated else 0 :].split("\n", 1)[0])
    delimiter = stated[1] if stated else max(DELIMITERS, key=first.count)
    rows = list(_rows(path, text, delimiter))[1 if stated else 0 :]
    if len(rows) < 2:
        raise DataError(f"{path} should hold a line of column names and a line for each photo, but is empty")
    columns = rows[0][1]
    doubled = [name for at, name in enumerate(columns) if name and name in columns[:at]]
    if doubled:
        raise DataError(f"{path} has two columns {doubled[0]!r}: rename one of them")
    for line, cells in rows[1:]:
        if len(cells) != len(columns):
            raise DataError(
                f"line {line} of {path} has {len(cells)} cells, and its first line {len(columns)}: mend it"
            )
    return Rows(path, columns, tuple(rows[1:]), encoding)


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the rows that hold something, each with its line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, tuple(cell.strip() for cell in cells)
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} of {path} is no row of a table ({error}): mend it") from None


def _text(path: Path) -> tuple[str, str]:
    """Return a file's text and the name of its encoding."""
    if path.is_dir():
        raise DataError(f"the table {path} is a folder: folder() reads photos in class folders")
    try:
        if os.path.getsize(path) > BYTES or not path.is_file():
            raise DataError(f"{path} should be a table of labels, but is larger than 1 GiB or no plain file")
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"the table {path} cannot be read ({error.strerror}): name a CSV or TSV file with a line a photo"
        ) from None
    for beginning, what in OTHERS.items():
        if raw.startswith(beginning):
            raise DataError(f"{path} should be a CSV or TSV file, not {what}: save it as CSV")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", "replace"), "UTF-16"
    try:
        return raw.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace"), "Windows-1252"
