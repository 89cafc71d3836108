"""`budgetnet profile`: say where the time of a recipe's training goes."""

import json
import os
from typing import Literal

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.options import (
    data_option,
    device_option,
    gathered,
    json_option,
    precision_option,
    recipe_argument,
    set_option,
)


@click.command()
@recipe_argument
@click.option(
    "--steps",
    type=click.IntRange(1, 100_000),
    default=10,
    show_default=True,
    metavar="N",
    help="Time so many steps of each phase, and as many again under torch's profiler.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    multiple=True,
    metavar="N",
    help="Time the steps with so many threads too. Repeatable: --threads 1 --threads 2.",
)
@gathered("asked", Asked, data_option, set_option)
@device_option
@precision_option
@click.option(
    "--trace", metavar="FILE", help="Write a Chrome trace, for chrome://tracing or ui.perfetto.dev."
)
@json_option("Print one JSON object.")
def command(
    recipe: str,
    steps: int,
    threads: tuple[int, ...],
    asked: Asked,
    device: str | None,
    precision: Literal["auto", "bf16", "float32"],
    trace: str | None,
    as_json: bool,
) -> None:
    """Say where the time of a recipe's training goes.

    A few real steps of each phase are taken and a batch is evaluated, exactly as `run` does it: a table of
    the parts of a step, the costliest operators and modules, the peak memory, and what is clearly off.
    Nothing is downloaded, and no run is left behind.
    """
    # The profiler's own library tells its beginning and its end on stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from budgetnet.cli.overview import at_hand, checked_model
    from budgetnet.console import say
    from budgetnet.data import Unavailable
    from budgetnet.profiling import profile, traces
    from budgetnet.trainer import Trainer

    trainer = Trainer(device, precision=precision, out=None, show=False)
    plan = asked.plan(recipe)
    files = traces(trace, len(plan.recipe.phases)) if trace is not None else []
    model = checked_model(plan)
    data, missing = at_hand(plan)
    if data is None:
        raise Unavailable(missing)
    profiled = profile(model, data, plan.recipe, steps=steps, trainer=trainer, threads=threads, trace=trace)
    if as_json:
        click.echo(json.dumps(profiled.json(), indent=2))
        return
    say(plan.title)
    say(str(profiled))
    for file in files:
        say(f"wrote {file}")
