"""`budgetnet profile`: where the time of a recipe's training goes."""

import json
import os
from dataclasses import dataclass
from typing import Literal

import click

from budgetnet.cli.offline import at_hand
from budgetnet.cli.options import Asked
from budgetnet.cli.outlook import check_resolutions
from budgetnet.console import say
from budgetnet.data import Unavailable
from budgetnet.profiling import profile, traces
from budgetnet.trainer import Trainer


@dataclass(frozen=True)
class Wanted:
    """How much is measured, and how it is told: steps of each phase, numbers of threads, a trace, JSON."""

    steps: int
    threads: tuple[int, ...] = ()
    trace: str | None = None
    as_json: bool = False


def profile_recipe(
    recipe: str,
    asked: Asked,
    wanted: Wanted,
    device: str | None,
    precision: Literal["auto", "bf16", "float32"],
) -> None:
    """Measure a recipe, by file or name, and print what was found. Raises Unavailable without its data."""
    # The profiler's own library tells its beginning and its end on stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    trainer = Trainer(device, precision=precision, out=None, show=False)
    plan = asked.plan(recipe)
    files = traces(wanted.trace, len(plan.recipe.phases)) if wanted.trace is not None else []
    model = plan.model()
    check_resolutions(model, plan.recipe)
    data, missing = at_hand(plan)
    if data is None:
        raise Unavailable(missing)
    found = profile(
        model,
        data,
        plan.recipe,
        steps=wanted.steps,
        trainer=trainer,
        threads=wanted.threads,
        trace=wanted.trace,
    )
    if wanted.as_json:
        click.echo(json.dumps(found.json(), indent=2))
        return
    say(plan.title)
    say(str(found))
    for file in files:
        say(f"wrote {file}")
