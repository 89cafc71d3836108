"""Columns: which of a table hold the photos' names, classes, parts and groups, as named or found out."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from budgetnet.data.kinds import DataError
from budgetnet.data.rows import Rows

LOOKED = 1000
"""Rows that are looked at to find out what columns hold."""
SHOWN = 8


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold names, classes (or are one-hot), parts and groups; None: found out."""

    name: str | None = None
    label: str | Sequence[str] | None = None
    part: str | None = None
    groups: str | None = None

    def __post_init__(self) -> None:
        for what, named in (("name", self.name), ("part", self.part)):
            if named is not None and not isinstance(named, str):
                raise DataError(f"{what} should be a column's name, not {named!r:.60}: give it as text")
        label = self.label
        if label is None or isinstance(label, str):
            return
        if not isinstance(label, Collection) or not all(isinstance(each, str) for each in label):
            raise DataError(
                f"label should be a column's name, or those of the one-hot columns, not {label!r:.60}: give "
                "them as text"
            )
        names = list(label)
        if not names:
            raise DataError("label names a column, or the one-hot columns, and is empty: name them")
        twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
        if twice is not None:
            raise DataError(f"label should name each one-hot column once, not {twice!r} twice: leave one out")


def column_of(groups: object) -> str | None:
    """Return the column that names the groups of a table, if any. Raises `DataError`."""
    if groups is not None and not isinstance(groups, str):
        raise DataError("groups of a table should name a column, not be a function: name it")
    return groups


def name_column(rows: Rows, columns: Columns) -> int:
    """Return the column of the photos' names, by default the first."""
    return rows.at(columns.name, "name") if columns.name is not None else 0


def label_columns(rows: Rows, columns: Columns) -> list[int]:
    """Return the column of the classes, or the one-hot columns. Raises `DataError`."""
    label, at = columns.label, name_column(rows, columns)
    if label is not None:
        labels = [rows.at(each, "label") for each in ([label] if isinstance(label, str) else label)]
        if at in labels:
            raise DataError(
                f"label should name the column of the classes, not {rows.columns[at]!r}, which holds the "
                f"names of the photos in {rows.path}: name another for one of them"
            )
        return labels
    named = ((columns.part, "part"), (columns.groups, "groups"))
    taken = {at, *(rows.at(column, what) for column, what in named if column is not None)}
    left = [each for each in range(len(rows.columns)) if each not in taken]
    if not left:
        raise DataError(
            f"{rows.path} has no column besides the photos' names: label names that of the classes"
        )
    if len(left) > 1:
        _check_hot(rows, left)
    return left


def hot(rows: Rows, line: int, cells: Sequence[str], labels: Sequence[int]) -> tuple[str, ...]:
    """Return the classes of a row whose columns hold a 1. Raises `DataError` for what is not 0 or 1."""
    values = [_value(cells[at]) for at in labels]
    wrong = [cells[at] for at, value in zip(labels, values) if value not in (0, 1)]
    if wrong:
        raise DataError(
            f"line {line} of {rows.path} holds {wrong[0][:40]!r} where one-hot columns hold 0 or 1: "
            "name one column, or those of the classes"
        )
    return tuple(rows.columns[at] for at, value in zip(labels, values) if value)


def _check_hot(rows: Rows, left: Sequence[int]) -> None:
    """Refuse columns that nobody named where they are not one-hot in each row that is looked at."""
    for line, cells in rows.rows[:LOOKED]:
        values = [_value(cells[at]) for at in left]
        if any(value not in (0, 1) for value in values):
            shown = ", ".join(rows.columns[:SHOWN])
            raise DataError(f"label should say which column of {rows.path} holds the classes: it has {shown}")
        ones = values.count(1)
        if ones != 1:
            shown = ", ".join(rows.columns[at] for at in left[:SHOWN])
            raise DataError(
                f"label should say which column of {rows.path} holds the classes, or which are one-hot: "
                f"{shown} hold 0 and 1, but line {line} has {ones or 'no'} 1{'s' if ones > 1 else ''}"
            )


def _value(cell: str) -> float | None:
    """The number in a cell of a one-hot column, None for what is none."""
    if cell.lower() in ("true", "false"):
        return float(cell.lower() == "true")
    try:
        return float(cell)
    except ValueError:
        return None
