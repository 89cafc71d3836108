"""Data out of photos whose labels stand in a table: which row names which photo, and its class."""

import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias, Unpack

from budgetnet.data.columns import Columns, column_of, hot, label_columns, name_column
from budgetnet.data.data import Data
from budgetnet.data.folder import Options, check_given, existing, labelled
from budgetnet.data.kinds import DataError, Finding
from budgetnet.data.labels import as_number, in_order
from budgetnet.data.listing import Listing, checked, file_at
from budgetnet.data.parts import ORDER, part_of
from budgetnet.data.rows import Rows, read_rows
from budgetnet.data.walk import below, folded, walk

Tables: TypeAlias = str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]]
"""A table, or those of train, val and test by these names."""

MANY, NEARLY = 10, 0.9
"""From so many classes on, and so large a part of them with one photo, they may be no classes."""


def table(
    path: Tables,
    *,
    size: int,
    images: str | os.PathLike[str] | None = None,
    name: str | None = None,
    label: str | Sequence[str] | None = None,
    part: str | None = None,
    **options: Unpack[Options],
) -> Data:
    """Return the photos that a table names, with the classes that it states, as `folder` returns others.

    `path` is a CSV or TSV file whose first line names the columns, or a mapping of train, and perhaps val and
    test, to such files. `name` is the column of the photos' names below the folder `images`, with their
    endings or without (by default the first column, and the folder of the table). `label` is the column of
    their classes, or the one-hot columns, one for each class (by default all columns that are left, where
    they are one-hot). `part` is a column that says train, val or test of each row, and `groups` one of what
    must not lie on both sides of a split, such as patients. Of several rows that say the same of a photo one
    is used; a photo of which they say two things, a row without a class, and one whose photo is not there are
    left out; a name that leads out of `images` is refused. `options` are those of `folder`; `indices` count
    the rows that are used. Raises `DataError`.

        data = table("train.csv", images="train", name="image_id", label="breed", size=128)
    """
    check_given("table", size, options)
    columns = Columns(name, label, part, column_of(options.pop("groups", None)))
    return labelled(checked(survey_table(path, images, columns)), size, **options)


def survey_table(path: Tables, images: str | os.PathLike[str] | None, columns: Columns) -> Listing:
    """Return the photos of a table, with what cannot be used among the findings. Raises `DataError`."""
    given = path if isinstance(path, Mapping) else {"train": path}
    if "train" not in given or set(given) - set(ORDER):
        raise DataError(
            f"tables are those of train, and perhaps val and test, not of {', '.join(map(str, given))}"
        )
    if isinstance(path, Mapping) and columns.part is not None:
        raise DataError(
            "part says which rows are train, val or test, and so do the names of the tables: leave one out"
        )
    tables = {name: read_rows(existing(file, "a table")) for name, file in given.items()}
    beside = tables["train"].path.parent
    root = beside if images is None else existing(images, "images")
    if images is not None and not root.exists() and (beside / root).is_dir():
        root = beside / root
    if not root.is_dir():
        raise DataError(f"images should be the folder that holds the photos, and {root} is none: name it")
    try:
        return _Reading(root, columns).listing(tables)
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be looked into ({error.strerror}): it must be yours to read"
        ) from None


class _Photos:
    """The photos below a folder, by what a table may call them."""

    def __init__(self, root: Path) -> None:
        self.root, walked = root, walk(root, root)
        self.findings = walked.findings
        self.outside = {finding.path for finding in walked.findings if finding.kind == "outside link"}
        self.exact = {below(root, path): path for path in walked.photos}
        self.near: dict[str, list[str]] = {}
        for path in self.exact:
            for key in {folded(path), folded(posixpath.splitext(path)[0])}:
                self.near.setdefault(key, []).append(path)

    def find(self, name: str) -> list[str]:
        """Return which photos a name may stand for. Raises ValueError for one that leads elsewhere."""
        if name in self.exact:
            return [name]
        path = name.replace("\\", "/")
        if posixpath.isabs(path) or path[1:3] == ":/":
            path = below(Path(os.path.abspath(self.root)), path)
        path = posixpath.normpath(path)
        if path.split("/")[0] == ".." or posixpath.isabs(path):
            raise ValueError("it leads out of the folder")
        for tried in (path, path.removeprefix(f"{self.root.name}/")):
            if tried in self.exact:
                return [tried]
            if folded(tried) in self.near:
                return self.near[folded(tried)]
        return []


@dataclass
class _Reading:
    """A reading of tables, which collects what it finds."""

    root: Path
    columns: Columns
    findings: list[Finding] = field(default_factory=list)

    def listing(self, tables: Mapping[str, Rows]) -> Listing:
        photos = _Photos(self.root)
        own = {below(self.root, rows.path) for rows in tables.values()}
        self.findings += [f for f in photos.findings if f.path not in own and f.kind != "outside link"]
        stated: dict[str, dict[str, list[tuple[int, str]]]] = {}
        named: set[str] = set()
        groups: dict[str, str] = {}
        for part, rows in tables.items():
            if rows.encoding == "Windows-1252":
                self._find("other encoding", str(rows.path), "")
            group = rows.at(self.columns.groups, "groups") if self.columns.groups is not None else None
            for (line, name, given, of), (_, cells) in zip(self._read(rows, part), rows.rows, strict=True):
                photo = self._photo(photos, rows, line, name)
                if photo is None:
                    continue
                named.add(photo)
                if group is not None:
                    self._group(groups, photo, cells[group], line)
                if not given:
                    self._find("no label", photo, f"line {line}")
                for label in given:
                    stated.setdefault(of, {}).setdefault(photo, []).append((line, label))
        labels = {part: self._agreed(photos) for part, photos in stated.items()}
        classes = self._classes(tables["train"], labels)
        self.findings += [Finding("not named", path) for path in photos.exact if path not in named]
        number = {name: at for at, name in enumerate(classes)}
        parts = {
            part: tuple(
                replace(file_at(self.root, photos.exact[path], number[label]), group=groups.get(path, ""))
                for path, label in labels[part].items()
                if label in number
            )
            for part in ORDER
            if labels.get(part)
        }
        return Listing(self.root, classes, parts, tuple(self.findings), tables["train"].path.name)

    def _read(self, rows: Rows, part: str) -> Iterator[tuple[int, str, tuple[str, ...], str]]:
        """Yield the line, the photo's name, its class (none, or one-hot several) and its part of each row."""
        at, labels = name_column(rows, self.columns), label_columns(rows, self.columns)
        parts = rows.at(self.columns.part, "part") if self.columns.part is not None else None
        for line, cells in rows.rows:
            of = part
            if parts is not None:
                of = part_of(cells[parts]) or ""
                if not of:
                    raise DataError(
                        f"line {line} of {rows.path} says {cells[parts][:40]!r} where it should say train, "
                        "val or test: mend it"
                    )
            if len(labels) == 1:
                yield line, cells[at], (cells[labels[0]],) if cells[labels[0]] else (), of
            else:
                yield line, cells[at], hot(rows, line, cells, labels), of

    def _group(self, groups: dict[str, str], photo: str, group: str, line: int) -> None:
        """Keep the group of a photo. Raises `DataError` for none, and for another than before."""
        if not group or groups.setdefault(photo, group) != group:
            another = f"has another group than before, {group[:40]!r}" if group else "has no group"
            raise DataError(f"line {line}: {photo} {another}, and groups={self.columns.groups!r}: mend it")

    def _photo(self, photos: _Photos, rows: Rows, line: int, name: str) -> str | None:
        """Return the photo that a row names; without one there is a finding."""
        where = f"line {line} of {rows.path} names {name[:80]!r}"
        try:
            candidates = photos.find(name)
        except ValueError:
            self._find("outside", name, f"{where}, which leads out of {self.root}: name photos within it")
            return None
        if not candidates:
            self._find("absent", name, f"line {line}")
        elif len(candidates) > 1:
            either = " or ".join(candidates[:2])
            self._find("unclear name", name, f"{where}, which may be {either}: name the ending too")
        elif candidates[0] in photos.outside:
            self._find("outside", name, f"{where}, a link that leads out of {self.root}: put the photo there")
        else:
            return candidates[0]
        return None

    def _find(self, kind: str, path: str, detail: str) -> None:
        self.findings.append(Finding(kind, path, detail))

    def _agreed(self, photos: Mapping[str, list[tuple[int, str]]]) -> dict[str, str]:
        """Return the class of each photo of which the rows say one."""
        labels = {}
        for photo, rows in photos.items():
            numbers = list(dict.fromkeys(str(line) for line, _ in rows))[:3]
            lines = f"line{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)}"
            different = list(dict.fromkeys(label for _, label in rows))
            if len(different) == 1:
                labels[photo] = different[0]
                if len(rows) > 1:
                    self._find("doubled row", photo, lines)
            else:
                self._find("contradiction", photo, f"{lines}: {' and '.join(different[:3])}")
        return labels

    def _classes(self, train: Rows, labels: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
        """Return the classes of train in order; refuse those that cannot be meant so."""
        training = set(labels.get("train", {}).values())
        hot = [] if isinstance(self.columns.label, str) else list(self.columns.label or ())
        classes = [name for name in hot if name in training] or in_order(training)
        if len(classes) < 2:
            self._refuse_few(train, classes)
        first: dict[str | Decimal, str] = {}
        for name in classes:
            number = as_number(name)
            other = first.setdefault(folded(name) if number is None else number, name)
            if other != name:
                how = "differ in case alone" if number is None else "are the same number"
                pair = f"{train.path} has the classes {other!r} and {name!r}"
                self._find("class clash", name, f"{pair}, which {how}: make them one")
        self._doubt(train, Counter(labels.get("train", {}).values()))
        for part, photos in labels.items():
            for name in sorted(set(photos.values()) - training):
                lacks = f"{part} has the class {name[:40]!r}, of which train has no photo"
                self._find("extra class", name, f"{lacks}: add some, or leave it out")
        return tuple(classes)

    def _doubt(self, train: Rows, counts: Mapping[str, int]) -> None:
        """Say of classes that look like measurements, or like one a photo, that they do."""
        numbers = [number for number in map(as_number, counts) if number is not None]
        broken = [number for number in numbers if number != number.to_integral_value()]
        if len(numbers) == len(counts) and len(broken) > len(counts) / 2:
            examples = ", ".join(list(counts)[:3])
            self._find("measurement", str(train.path), f"{len(counts):,} values, such as {examples}")
        elif len(counts) >= MANY and list(counts.values()).count(1) >= NEARLY * len(counts):
            single = list(counts.values()).count(1)
            self._find("one each", str(train.path), f"{single:,} of {len(counts):,} classes have one photo")

    def _refuse_few(self, train: Rows, classes: Sequence[str]) -> None:
        """Refuse fewer than two classes, and say what may be wrong instead."""
        absent = [finding for finding in self.findings if finding.kind == "absent"]
        if not classes and absent:
            sentence = (
                f"none of the {len(train.rows):,} photos that {train.path} names is in {self.root}, such as "
                f"{absent[0].path[:80]!r}: say as images where they lie, and as name which column names them"
            )
        else:
            holds = f"only {classes[0][:40]!r}" if classes else "none"
            should = f"{train.path} should state two classes or more for the photos in {self.root}"
            sentence = f"{should}, but states {holds}"
        self._find("one class", str(train.path), sentence)
