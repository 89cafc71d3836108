"""Trial and Sweep: what was tried with which figures, as values, as text, and as files."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from budgetnet.compare import Figure, measured
from budgetnet.files import write_whole
from budgetnet.run import Run
from budgetnet.schedule import rises
from budgetnet.text import aligned, counted, duration

METRICS = {"val_accuracy": "validation accuracy", "val_loss": "validation loss"}
JSON, CSV = "sweep.json", "sweep.csv"
FORMAT = 1
_SHOWN = 30
"""Trials that the table has."""
_FIGURES = ("val_accuracy", "val_loss", "train_accuracy", "seconds", "test_accuracy", "test_loss")


@dataclass(frozen=True)
class Trial:
    """One setting: its `number` in the grid or search from 1, its values as text, and its runs, one a seed.

    `planned` is how many runs it is to have. Figures are those of the finished ones. `ending` is a search's
    word for how it ended, if not well, `why` in words, and `costs` are those that accuracy is set against.
    """

    number: int
    settings: Mapping[str, str]
    runs: tuple[Run, ...]
    planned: int
    ending: str = ""
    why: str = ""
    costs: Mapping[str, float] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """ "finished" (all of its runs), "failed" (one of them did), or "unfinished".

        Of a search also "pruned", and "left" where it ran out of time.
        """
        if self.ending:
            return self.ending
        if any(run.status == "failed" for run in self.runs):
            return "failed"
        done = len(self.runs) == self.planned and all(run.over for run in self.runs)
        return "finished" if done else "unfinished"

    def figure(self, name: str) -> Figure:
        """The final figure `name`, such as "val_accuracy", over the finished runs."""
        return Figure(tuple(measured(run, name) for run in self.runs if run.over))

    def __str__(self) -> str:
        return " ".join(f"{path}={text}" for path, text in self.settings.items())


@dataclass(frozen=True)
class Sweep:
    """The trials of a grid or a search, in order, in `folder`; chosen by `metric` on the validation images.

    `plan` describes what was swept over. `str()` of it is the table that `budgetnet sweep` prints. A search
    may set the metric `against` costs, and has `refused` suggestions (number, setting, why); it may not be
    `over`.
    """

    folder: Path
    metric: str
    trials: tuple[Trial, ...]
    plan: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    refused: tuple[tuple[int, Mapping[str, str], str], ...] = ()
    over: bool = True
    searched: bool = False

    @property
    def done(self) -> bool:
        """Whether nothing is left that is to be trained."""
        return self.over and all(trial.status not in ("unfinished", "left") for trial in self.trials)

    @property
    def front(self) -> tuple[Trial, ...]:
        """The finished trials than which none is better in the metric or a cost, and as good in the rest.

        The cheapest in the first cost comes first; without costs there are none.
        """
        finished = [trial for trial in self.trials if trial.status == "finished" and self.against]
        figures = {trial.number: self._objectives(trial) for trial in finished}
        best = [
            trial
            for trial in finished
            if not any(_dominates(figures[other.number], figures[trial.number]) for other in finished)
        ]
        return tuple(sorted(best, key=lambda trial: figures[trial.number][1:]))

    def _objectives(self, trial: Trial) -> tuple[float, ...]:
        """What is to be as low as possible, the metric first."""
        figure = trial.figure(self.metric).mean
        return (-figure if rises(self.metric) else figure, *(trial.costs[cost] for cost in self.against))

    @property
    def rows(self) -> tuple[Trial, ...]:
        """The trials, the best first by the mean of the metric; what is unfinished or failed comes last."""
        return tuple(sorted(self.trials, key=self._rank))

    @property
    def selected(self) -> Trial | None:
        """The best trial, once all have come to their end; None where none has a figure."""
        ended = self.over and all(trial.status != "unfinished" for trial in self.trials)
        best = self.rows[0] if self.trials else None
        good = best is not None and best.status == "finished" and best.figure(self.metric).n == best.planned
        return best if ended and good else None

    @property
    def test(self) -> Figure:
        """Test accuracy of the selected setting, over its seeds; empty where there is no test split."""
        return self.selected.figure("test_accuracy") if self.selected else Figure(())

    def _rank(self, trial: Trial) -> tuple[bool, bool, tuple[float, ...], int]:
        complete = trial.figure(self.metric).n == trial.planned
        figure, accuracy = trial.figure(self.metric).mean, trial.figure("val_accuracy").mean
        other = trial.figure("val_loss").mean if self.metric == "val_accuracy" else -accuracy
        order = (-figure if rises(self.metric) else figure, other)
        first, second = (math.inf if math.isnan(figure) else figure for figure in order)
        costs = [trial.costs.get(cost, math.inf) for cost in self.against]
        return trial.status != "finished", not complete, (first, *costs, second), trial.number

    def __str__(self) -> str:
        paths = list(self.trials[0].settings) if self.trials else []
        several, shown = (
            any(trial.planned > 1 for trial in self.trials),
            self.rows[: _SHOWN if self.searched else None],
        )
        more = [self.metric.removeprefix("val_")] if self.metric not in METRICS else []
        titles = [
            "trial",
            *paths,
            *self.against,
            *more,
            "validation",
            *(["min..max"] if several else []),
            "loss",
            "n",
            "time",
        ]
        rows = [titles, *(self._cells(trial, several) for trial in shown)]
        return "\n".join([aligned(rows, left=1 + len(paths)), "", *self._closing()])

    def _cells(self, trial: Trial, several: bool) -> list[str]:
        accuracy, loss = trial.figure("val_accuracy"), trial.figure("val_loss")
        shown = accuracy.percent() if trial.status == "finished" else trial.status
        return [
            str(trial.number),
            *trial.settings.values(),
            *(_cost(cost, trial.costs.get(cost)) for cost in self.against),
            *([] if self.metric in METRICS else [trial.figure(self.metric).plain()]),
            shown,
            *([accuracy.range()] if several else []),
            loss.plain(),
            str(accuracy.n),
            duration(trial.figure("seconds").mean),
        ]

    def _front_cells(self, trial: Trial) -> list[str]:
        figure = trial.figure(self.metric)
        shown = figure.plain() if self.metric == "val_loss" else figure.percent()
        costs = [_cost(cost, trial.costs[cost]) for cost in self.against]
        return [*costs, shown, f"{trial.number}: {trial}"]

    def _closing(self) -> Iterator[str]:
        if self.searched:
            counts = Counter(trial.status for trial in self.rows)
            told = ", ".join(f"{count} {status}" for status, count in counts.items())
            more = f"; the best {_SHOWN} are shown, {CSV} has all" if len(self.trials) > _SHOWN else ""
            refused = f"; {counted(len(self.refused), 'suggestion')} refused" if self.refused else ""
            yield f"{counted(len(self.trials), 'trial')}: {told}{refused}{more}"
        if self.front:
            titles = [*self.against, METRICS.get(self.metric, self.metric), "trial"]
            rows = [titles, *(self._front_cells(trial) for trial in self.front)]
            yield f"the Pareto front: no trial has less {' or '.join(self.against)} and does as well"
            yield aligned(rows, left={len(titles) - 1})
            yield ""
        selected, finished = self.selected, [trial for trial in self.trials if trial.status == "finished"]
        for trial in self.trials:
            for run in trial.runs:
                if run.status == "failed":
                    seed, why = run.record.get("seed"), " ".join(str(run.record.get("error", "")).split())
                    yield f"trial {trial.number} failed with seed {seed}: {why}"
        if selected is None:
            ended = self.over and all(trial.status != "unfinished" for trial in self.trials)
            yield "nothing is selected: " + ("no trial finished" if ended else "some trials are unfinished")
        else:
            best = f", the best of {len(finished)} on these images" if len(finished) > 1 else ""
            yield f"selected by {METRICS.get(self.metric, self.metric)}{best}: {selected}"
            yield self._test_line(selected)
        yield from (f"note: {note}" for note in self.notes)

    def _test_line(self, selected: Trial) -> str:
        if not self.test.n:
            return "test: the data have no test split"
        n = f" (n = {self.test.n})" if self.test.n > 1 else ""
        images = selected.runs[0].result.get("test_images")
        once = "measured once, for the selected setting only"
        return f"test: {self.test.percent()}{n} on {images} images, {once}"

    def json(self) -> dict[str, Any]:
        """Everything as plain JSON values, the trials ranked."""
        return {
            "format": FORMAT,
            "plan": dict(self.plan),
            "metric": self.metric,
            "selected": self.selected.number if self.selected else None,
            "trials": [_described(trial) for trial in self.rows],
            "notes": list(self.notes),
            **self._searched(),
        }

    def _searched(self) -> dict[str, Any]:
        """What a search has besides, as JSON."""
        front = {"against": list(self.against), "front": [trial.number for trial in self.front]}
        refused = [{"number": n, "settings": dict(s), "why": why} for n, s, why in self.refused]
        return (front if self.against else {}) | ({"refused": refused} if refused else {})

    def csv(self) -> str:
        """A line for each trial, ranked: its settings, and mean, sd and n of its figures."""
        paths = list(self.trials[0].settings) if self.trials else []
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        shown = dict.fromkeys((*_FIGURES, self.metric))
        names = [f"{name}_{kind}" for name in shown for kind in ("mean", "sd")]
        lines.writerow(["trial", *paths, *self.against, "status", "selected", "n", *names])
        for trial in self.rows:
            figures = [trial.figure(name) for name in shown]
            numbers = ["" if math.isnan(x) else f"{x:.6g}" for f in figures for x in (f.mean, f.sd)]
            chosen = str(trial is self.selected).lower()
            n = trial.figure(self.metric).n
            costs = [trial.costs.get(cost, "") for cost in self.against]
            lines.writerow(
                [trial.number, *trial.settings.values(), *costs, trial.status, chosen, n, *numbers]
            )
        return text.getvalue()

    def save(self) -> None:
        """Write sweep.json and sweep.csv into the sweep's folder."""
        write_whole(self.folder / JSON, (json.dumps(self.json(), indent=2) + "\n").encode())
        write_whole(self.folder / CSV, self.csv().encode())


def _cost(name: str, cost: float | None) -> str:
    if cost is None:
        return "-"
    return f"{1000 * cost:.3g} ms" if name == "latency" else f"{cost:,.0f}"


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _described(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "settings": dict(trial.settings),
        "status": trial.status,
        **({"costs": dict(trial.costs)} if trial.costs else {}),
        **({"why": trial.why} if trial.why else {}),
        "figures": {name: trial.figure(name).json() for name in _FIGURES if trial.figure(name).n},
        "runs": [
            {
                "folder": run.folder.name if run.folder is not None else None,
                "seed": run.record.get("seed"),
                "status": run.status,
            }
            for run in trial.runs
        ],
    }
