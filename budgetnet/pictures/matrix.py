"""Matrix: the cells of a confusion matrix as shares."""

from collections.abc import Sequence

Pairs = Sequence[tuple[int, int, int]]

FEW = 20
"""Classes whose confusion matrix is read as a table."""


def cells(pairs: Pairs, classes: Sequence[str]) -> list[list[tuple[int, float]]]:
    """The confusion matrix row by row: images, and their share of the row's class."""
    counts = [[0] * len(classes) for _ in classes]
    for truth, said, times in pairs:
        counts[truth][said] = times
    return [[(times, times / max(1, sum(row))) for times in row] for row in counts]
