"""Lines of CSV that every reader takes as they were meant: in UTF-8, quoted, harmless in a spreadsheet."""

from collections.abc import Iterable, Sequence

from budgetnet.text import inline

# What makes a spreadsheet take a cell for a formula. Reference: https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
QUOTED = (",", '"', "\r", "\n")


def line(cells: Iterable[str]) -> str:
    """Return cells as one line; those with a comma, a quote or an end of line of any system are quoted."""
    return ",".join(map(_cell, cells)) + "\n"


def encoded(text: str) -> bytes:
    """Return text in UTF-8; the bytes of a file name that is none are written as "\\xe9"."""
    raw = text.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace").encode()


def sheet(cell: str, *, path: bool = False) -> str:
    """Return a cell as text to a spreadsheet: what looks like a formula with ' before, a path with ./."""
    return f"{'./' if path else chr(39)}{cell}" if _formula(cell) else cell


def danger(rows: Sequence[Sequence[str]], *, kept: bool) -> list[str]:
    """Return notes on the first two cells of rows: formulas to a spreadsheet (`kept` so), no UTF-8."""
    cells = [cell for row in rows for cell in row[:2]]
    formulas = list(dict.fromkeys(cell for cell in cells if _formula(cell)))
    foreign = list(dict.fromkeys(cell for cell in cells if _foreign(cell)))
    notes = []
    if formulas:
        done = "is written as it is" if kept else "is written with ./ or ' before it"
        notes.append(f"{_some(formulas)} would be a formula to a spreadsheet, and {done}")
    if foreign:
        notes.append(f"{_some(foreign)} is not UTF-8, and its other bytes are written as \\xNN")
    return notes


def _some(cells: Sequence[str]) -> str:
    more = f" (and {len(cells) - 1:,} more like it)" if len(cells) > 1 else ""
    return f"'{inline(encoded(cells[0]).decode())}'{more}"


def _cell(cell: str) -> str:
    quoted = any(sign in cell for sign in QUOTED) or cell != cell.strip()
    return '"' + cell.replace('"', '""') + '"' if quoted else cell


def _formula(cell: str) -> bool:
    if not cell.startswith(FORMULA):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


def _foreign(cell: str) -> bool:
    try:
        # Where the system's encoding is ASCII, Python takes the bytes of UTF-8 for foreign ones.
        cell.encode("utf-8", "surrogateescape").decode()
    except UnicodeDecodeError:
        return True
    return False
