"""Text: tables, units, and names that come from elsewhere, as a person reads them on any terminal."""

import itertools
import math
import operator
import re
import unicodedata
from collections.abc import Container, Mapping, Sequence
from decimal import Decimal
from importlib import import_module
from typing import Any

# Control characters, what turns the direction of writing, and halves of characters, which nothing shows.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

# A comma stands between thousands alone: "1,5M" is one and a half million to many, and never fifteen.
_WRITTEN = re.compile(
    r"((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]+)?(?:[eE][0-9]{1,2})?)\s*([A-Za-z]*)"
)
COUNTS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_ENDINGS = (("", 1000), ("b", 1000), ("ib", 1024))
_LONGEST_TIME = 1e9
TIMES = {"": 1, "s": 1, "m": 60, "h": 3600}
BYTES = {"": 1, "b": 1} | {
    f"{letter}{ending}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for ending, base in _ENDINGS
}
"""What the endings of a written amount stand for, in small letters."""


def harmless(text: str) -> str:
    """`text` with each character that a terminal would obey instead of showing it as "\\x1b" or the like.

    Names of files and classes come from elsewhere. Tabs and ends of lines stay.
    """
    return _HARMFUL.sub(lambda match: ascii(match[0])[1:-1], text)


def inline(text: str) -> str:
    """`harmless`, without tabs and ends of lines too."""
    return harmless(text).replace("\n", "\\n").replace("\t", "\\t")


def one_line(text: str) -> str:
    """What a file or a server says, as one line of 200 characters at most, all of them printable."""
    cut = " ".join(text[:1000].split())[:200]
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in cut)


def aligned(rows: Sequence[Sequence[str]], *, left: int | Container[int] = 1) -> str:
    """Rows of cells as lines without trailing blanks, their columns two spaces apart.

    The first `left` columns, or those whose numbers are in it, are text; the others are numbers, set to the
    right.
    """
    texts = range(left) if isinstance(left, int) else left
    cells = [[inline(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = []
        for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
            blank = " " * (width - _width(cell))
            padded.append(cell + blank if at in texts else blank + cell)
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def folded(text: str, width: int) -> str:
    """Text whose tables fit into so many columns: what does not, stands below, beside the first one.

    A table is lines with two blanks or more between their cells, as `aligned` makes them. Prose stays as it
    is, for a terminal to wrap.
    """
    parts = []
    for is_table, given in itertools.groupby(text.split("\n"), _is_row):
        lines = list(given)
        if is_table and max(map(_width, lines)) > width:
            rows = [line for line in lines if line.strip("-")]
            lines = (
                _stacked(rows, width)
                if len(rows) > 1
                else [each for row in rows for each in _broken(row, width)]
            )
        parts += lines
    return "\n".join(parts)


def _is_row(line: str) -> bool:
    """Whether a line is a row of a table, or the rule between two."""
    return "  " in line.strip() or bool(line and not line.strip("-"))


def _broken(line: str, width: int) -> list[str]:
    """A line broken between cells, its further lines indented."""
    lines: list[str] = []
    for cell in re.split(" {2,}", line.strip()):
        longer = f"{lines[-1]}  {cell}" if lines else cell
        lines[-1:] = [longer] if len(longer) <= width else [*lines[-1:], f"    {cell}" if lines else cell]
    return lines


def _stacked(lines: list[str], width: int) -> list[str]:
    """A table as several, one below the other, each with the first column."""
    longest = max(map(len, lines))
    padded = [line.ljust(longest) for line in lines]
    blank = [all(line[at] == " " for line in padded) for at in range(longest)]
    # Where two blanks or more end, a column begins.
    starts = [0, *(at for at in range(2, longest) if not blank[at] and blank[at - 1] and blank[at - 2])]
    first, *rest = [[line[a:b] for line in padded] for a, b in zip(starts, [*starts[1:], longest])]
    tables = [first]
    for column in rest:
        joined = [before + cell for before, cell in zip(tables[-1], column)]
        if tables[-1] is not first and max(len(line.rstrip()) for line in joined) > width:
            tables.append([before + cell for before, cell in zip(first, column)])
        else:
            tables[-1] = joined
    return [line.rstrip() for at, table in enumerate(tables) for line in ([""] if at else []) + table]


def _width(text: str) -> int:
    """The columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(unicodedata.category(each) in ("Mn", "Me", "Cf") for each in text)


def frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a pandas DataFrame. Raises ValueError where pandas, which nothing else needs, is not there."""
    try:
        pandas = import_module("pandas")
    except ImportError:
        raise ValueError("to_pandas needs pandas, which is not installed: pip install pandas") from None
    return pandas.DataFrame(rows)


def counted(count: int, noun: str) -> str:
    """ "1 class", "2 classes", "3 files or folders"."""
    if count == 1:
        return f"1 {noun}"
    several = " or ".join(f"{word}{'es' if word.endswith('s') else 's'}" for word in noun.split(" or "))
    return f"{count:,} {several}"


def percent(part: float) -> str:
    """0.8401 as "84.01 %"; nothing measured as "-"."""
    return "-" if math.isnan(part) else f"{100 * part:.2f} %"


def duration(seconds: float) -> str:
    """Seconds as a person reads them: "4.2 s", "3:07", "2:03:07"."""
    if not math.isfinite(seconds):
        return "-"
    return f"{seconds:.1f} s" if seconds < 59.95 else clock(seconds)


def clock(seconds: float) -> str:
    """Seconds as a clock shows them: "0:42", "3:07", "2:03:07"."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def size(count: float) -> str:
    """Bytes as a person reads them: "1.53 GB"."""
    if count < 1000:
        return f"{count:.0f} bytes"
    size, unit = count / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        # From here on three digits are 1,000, which would be written 1e+03.
        if size >= 999.5:
            size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"


def quantity(written: object, units: Mapping[str, int]) -> Decimal | None:
    """What a person wrote as an exact number: 2e6, "300_000", "2M" with COUNTS, "1.5KiB" with BYTES.

    None for anything else, and for what has more than 18 digits or 40 characters.
    """
    if isinstance(written, bool):
        return None
    if isinstance(written, str):
        match = _WRITTEN.fullmatch(written.strip()) if len(written) <= 40 else None
        unit = None if match is None else units.get(match[2].lower())
        if match is None or unit is None:
            return None
        return Decimal(match[1].replace("_", "").replace(",", "")) * unit
    if isinstance(written, float):
        return Decimal(written) if abs(written) < math.inf else None  # a nan compares false
    try:
        number = operator.index(written)  # type: ignore[arg-type]
    except TypeError:
        return None
    return Decimal(number) if abs(number) <= 10**18 else None


def seconds(written: float | str | None, name: str = "max_time") -> float | None:
    """A time as seconds: 90, "90", "90s", "1h30m". Raises ValueError for what is no time above 0."""
    if written is None:
        return None
    pieces = re.split("(?<=[hms])", written.strip().lower()) if isinstance(written, str) else [written]
    numbers = [quantity(piece, TIMES) for piece in pieces if piece != ""]
    total = sum(math.nan if number is None else float(number) for number in numbers)
    if not 0 < total <= _LONGEST_TIME:
        text = f"{written!r:.40}" if isinstance(written, str | float) else "a number beyond all years"
        raise ValueError(f"{name} should be seconds or a time such as '11h30m', not {text}")
    return total
