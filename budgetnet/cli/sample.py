"""Sample: a competition's sample submission: which images, in which order, and what is wanted of each."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from budgetnet.data import folded
from budgetnet.engine import Prediction
from budgetnet.files import line, read_whole
from budgetnet.text import inline

LONGEST = 1 << 28
"""Bytes of a sample that are read at most."""
SHOWN = 5
_NAMED = re.compile(r"([+-]?[0-9]{1,18})(\.0*)?")
"""A class's name that is a whole number, or equals one, as pandas writes a column that had gaps."""
_WHOLE, _NUMBER = re.compile(r"[0-9]+"), re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Sample:
    """The header of a sample submission and its rows, the Id first."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """The Ids in order."""
        return tuple(row[0] for row in self.rows)

    def asks(self, classes: Sequence[str]) -> "Wish":
        """What it wants of each image, by its columns and the values that stand in them as examples.

        Raises ValueError where its columns are not the model's classes.
        """
        columns, answers = self.header[1:], [row[1] for row in self.rows]
        known = set(columns) <= set(classes)
        if known and (len(columns) == len(classes) or all(map(_NUMBER.fullmatch, answers))):
            return Wish("probability", tuple(classes.index(name) for name in columns))
        if len(columns) > 1:
            odd = [name for name in columns if name not in classes]
            raise ValueError(
                f"the columns of {self.path} should be an Id and classes of the model, or an Id and one for "
                f"the answer, and the model does not know {_some(odd)}: predict with a model of these"
            )
        if set(answers) <= set(classes):
            return Wish("name")
        if all(map(_WHOLE.fullmatch, answers)):
            return Wish("number", numbers=_numbers(classes))
        if all(map(_NUMBER.fullmatch, answers)):
            if len(classes) != 2:
                raise ValueError(
                    f"{self.path} has one column of probabilities, and the model tells {len(classes)} "
                    "classes apart, not two: give a sample with a column for each class"
                )
            return Wish("probability", (1,))
        return Wish("name")


@dataclass(frozen=True)
class Wish:
    """What is written of an image: its class's "name" or "number", or the "probability" of these classes.

    `numbers` are what their names denote where all of these are whole numbers, else the classes count from 0.
    """

    kind: str
    columns: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()

    def told(self, classes: Sequence[str]) -> str:
        """In words, for whoever should look at it."""
        if self.kind == "number":
            return f"the class's number, {'as its name says it' if self.numbers else 'counted from 0'}"
        if self.kind == "name":
            return "the class's name"
        of = classes[self.columns[0]] if len(self.columns) == 1 else "each class"
        return f"the probability of {of}"

    def cells(self, prediction: Prediction) -> list[list[str]]:
        """The cells of each image, without its Id."""
        if self.kind == "name":
            return [[name] for name in prediction.named()]
        if self.kind == "number":
            labels = prediction.labels.tolist()
            return [[str(self.numbers[label] if self.numbers else label)] for label in labels]
        chances = prediction.probabilities[:, list(self.columns)].tolist()
        return [[f"{chance:.9g}" for chance in row] for row in chances]


def read_sample(path: str | Path) -> Sample:
    """The sample in a CSV file. Raises ValueError for what is none."""
    path = Path(path)
    try:
        text = read_whole(path, LONGEST).decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (OSError, ValueError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ValueError(
            f"--like should be a sample submission, a CSV file, and {path} cannot be read: {why}"
        ) from None
    if len(rows) < 2 or len(rows[0]) < 2:
        raise ValueError(
            f"{path} should have a header, an Id and an answer, and a row for each image: is it the sample?"
        )
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"row {number} of {path} has {len(row)} cells, and its header {len(rows[0])}: mend it"
            )
    ids = [row[0] for row in rows[1:]]
    if len(set(ids)) < len(ids):
        twice = next(each for at, each in enumerate(ids) if each in ids[:at])
        raise ValueError(f"{path} has the Id {inline(twice)} twice: mend it")
    return Sample(path, tuple(rows[0]), tuple(map(tuple, rows[1:])))


def matched(sample: Sample, paths: Sequence[Path]) -> dict[str, Path]:
    """Which image each Id names: by its name with or without ending, and as many folders as the Id has.

    Where no name is the Id, one is taken that differs in case or in accents' encoding alone, as of a table.
    Raises ValueError for Ids without an image, and for one that names several.
    """
    named: dict[str, list[Path]] = {}
    for path in dict.fromkeys(paths):
        for at in range(len(path.parts)):
            tail = Path(*path.parts[at:])
            for name in dict.fromkeys((tail.as_posix(), tail.with_suffix("").as_posix())):
                named.setdefault(name, []).append(path)
    near: dict[str, list[Path]] = {}
    if not named.keys() >= set(sample.ids):
        for name, found in named.items():
            near.setdefault(folded(name), []).extend(found)
    missing = [each for each in sample.ids if each not in named and folded(each) not in near]
    if missing:
        raise ValueError(
            f"{len(missing):,} of the {len(sample.ids):,} Ids of {sample.path} have no image among those "
            f"given, such as {_some(missing)}: give the folder of the test images"
        )
    images = {}
    for each in sample.ids:
        known = named.get(each) or list(dict.fromkeys(near[folded(each)]))
        # A name with its ending before one without: 1.5 is 1.5 itself, not 1.5.png.
        whole = [path for path in known if folded(path.as_posix()).endswith(folded(each))] or known
        if len(whole) > 1:
            raise ValueError(
                f"the Id {inline(each)} names {whole[0]} and {whole[1]}: give one of their folders"
            )
        images[each] = whole[0]
    return images


def filled(sample: Sample, wish: Wish, found: Mapping[str, Path], prediction: Prediction) -> str:
    """The submission: the sample with what is predicted; what was not read keeps its own values."""
    known = dict(zip(prediction.names, wish.cells(prediction), strict=True))
    cells = (known.get(str(found[row[0]]), row[1:]) for row in sample.rows)
    lines = (line((each, *rest)) for each, rest in zip(sample.ids, cells, strict=True))
    return "".join([line(sample.header), *lines])


def _numbers(classes: Sequence[str]) -> tuple[int, ...]:
    """The whole numbers that the names of the classes denote, none where some are none or the same."""
    named = [match for match in map(_NAMED.fullmatch, classes) if match]
    numbers = tuple(dict.fromkeys(int(match[1]) for match in named))
    return numbers if len(numbers) == len(classes) else ()


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(map(inline, names[:SHOWN]))}{more}"
