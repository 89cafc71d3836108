"""Written: a comparison's figures under short names, as rows for programs, and for a paper or a page."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from budgetnet.compare.group import Group
from budgetnet.metrics import interval_text, metrics_of
from budgetnet.text import inline

SHORT = {
    "val_accuracy": "val",
    "test_accuracy": "test",
    "train_accuracy": "train",
    "train_eval_accuracy": "train_eval",
}
"""What the accuracies are called in a column."""
FORMATS = ("table", "latex", "markdown", "csv")
_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def shown(groups: Sequence[Group]) -> dict[str, str]:
    """The accuracies and metrics that some group has, with their short names."""
    metrics = dict.fromkeys(
        f"{split}_{name}"
        for split in ("val", "test")
        for group in groups
        for run in group.finished
        for name in metrics_of(run.result, split)
        if "." not in name
    )
    named = SHORT | {name: name for name in metrics}
    return {what: name for what, name in named.items() if any(group.figure(what).n for group in groups)}


def rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """A row for each group: mean, sd and the ends of the 95 % interval of each figure, in parts of 1."""
    written = []
    for group in groups:
        row: dict[str, Any] = {"group": group.name, "runs": group.label, "n": len(group.finished)}
        for what, name in shown(groups).items():
            figure, (low, high) = group.figure(what), group.interval(what)
            row |= {name: figure.mean, f"{name}_sd": figure.sd, f"{name}_low": low, f"{name}_high": high}
        row |= {name: group.figure(name).mean for name in ("images_per_second", "seconds")}
        written.append(row)
    return written


def written(groups: Sequence[Group], form: str, *, intervals: bool) -> str:
    """The rows as "csv", plain numbers all of them, or as "latex" or "markdown", as they are printed."""
    if form == "csv":
        return _csv(rows(groups))
    figures = shown(groups)
    head = [
        "group",
        "runs",
        "n",
        *(f"{name} (%)" if what in SHORT else name for what, name in figures.items()),
    ]
    if intervals:
        head = [*head[:3], *(cell for title in head[3:] for cell in (title, "95 %"))]
    cells = [head]
    for group in groups:
        row = [group.name, group.label, str(len(group.finished))]
        for what in figures:
            figure = group.figure(what)
            text = figure.percent().removesuffix(" %") if what in SHORT else figure.plain()
            row += [text, ends(group, what).removesuffix(" %")] if intervals else [text]
        cells.append(row)
    return _latex(cells) if form == "latex" else _markdown(cells)


def ends(group: Group, what: str) -> str:
    """The 95 % interval of a figure as a person reads it; "" where there is none."""
    low, high = group.interval(what)
    return interval_text((low, high)) if what in SHORT or math.isnan(low) else f"{low:.4f}..{high:.4f}"


def _csv(lines: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(lines[0])
    for line in lines:
        writer.writerow(
            "" if isinstance(v, float) and math.isnan(v) else f"{v:.6g}" if isinstance(v, float) else v
            for v in line.values()
        )
    return text.getvalue().removesuffix("\n")


def _markdown(cells: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(inline(cell).replace("|", "\\|") for cell in row) for row in cells]
    rule = " | ".join(["---", "---", *["---:"] * (len(cells[0]) - 2)])
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def _latex(cells: Sequence[Sequence[str]]) -> str:
    """A table of the package booktabs."""

    def safe(cell: str) -> str:
        return (
            "".join(_LATEX.get(letter, letter) for letter in inline(cell))
            .replace("±", r"$\pm$")
            .replace("..", "--")
        )

    lines = [" & ".join(map(safe, row)) + r" \\" for row in cells]
    columns = "ll" + "r" * (len(cells[0]) - 2)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )
