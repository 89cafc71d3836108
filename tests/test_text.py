"""Tables on narrow terminals: nothing is cut, and each part has the column that says what its rows are."""

from hypothesis import given
from hypothesis import strategies as st

from budgetnet.text import aligned, folded

CELLS = st.text("abc012", min_size=1, max_size=9)
ROWS = st.integers(2, 7).flatmap(
    lambda columns: st.lists(st.lists(CELLS, min_size=columns, max_size=columns), min_size=2, max_size=6)
)


@given(ROWS, st.integers(24, 60))
def test_a_table_of_any_width_fits_and_keeps_every_cell(rows: list[list[str]], width: int) -> None:
    whole = aligned(rows)
    shown = folded(whole, width)
    assert max(map(len, shown.splitlines())) <= width
    tables = [[line.split() for line in table.splitlines()] for table in shown.split("\n\n")]
    for at, row in enumerate(rows):
        parts = [table[at] for table in tables]
        assert all(part[0] == row[0] for part in parts)
        assert [row[0], *(cell for part in parts for cell in part[1:])] == row


def test_prose_stays_and_a_single_line_breaks_between_its_cells() -> None:
    prose = "a sentence that is longer than the terminal is wide"
    assert folded(prose, 20) == prose
    assert folded("learn 1/2  loss 2.2875  train 21.88 %", 24) == "learn 1/2  loss 2.2875\n    train 21.88 %"
    assert folded("a  b", 20) == "a  b"
    assert folded("name   count\n------------\none       10", 11) == "name   count\none       10"
