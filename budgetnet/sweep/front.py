"""Front: the trials of a search that are the best for what they cost, as a picture."""

from collections.abc import Iterator

from budgetnet.files import write_whole
from budgetnet.pictures import Chart, Line, NoPlot, charts_figure, encoded
from budgetnet.sweep.trials import METRICS, Sweep, Trial

PICTURE = "front.svg"


def charts(result: Sweep) -> Iterator[Chart]:
    """A chart for each cost: the metric of the front's trials as a line, and of the others as dots."""
    front = result.front
    others = [trial for trial in result.trials if trial.status == "finished" and trial not in front]
    for cost in result.against:

        def at(trial: Trial, cost: str = cost) -> tuple[float, float]:
            return trial.costs[cost], trial.figure(result.metric).mean

        dots = [
            Line("other trials" if number == 0 else "", [at(trial)], 1) for number, trial in enumerate(others)
        ]
        best = Line("the best for their costs", sorted(map(at, front)), 0)
        across = "latency (s)" if cost == "latency" else cost
        yield Chart(f"{METRICS.get(result.metric, result.metric)} against {cost}", (best, *dots), across)


def draw(result: Sweep) -> str:
    """Write the picture of the front into the sweep's folder; a sentence where it cannot be drawn."""
    if not result.front:
        return ""
    try:
        picture = encoded(charts_figure(list(charts(result))), "svg")
    except NoPlot as error:
        return f"no {PICTURE}: {error}"
    write_whole(result.folder / PICTURE, picture)
    return ""
