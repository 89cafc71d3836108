"""`profile`: the command that says where a training's time goes."""

from typing import Literal

import click

from budgetnet.cli.options import (
    Asked,
    Number,
    asking,
    data_option,
    device_option,
    precision_option,
    set_option,
)


@click.command()
@click.argument("recipe", metavar="FILE|NAME")
@click.option(
    "--steps",
    type=Number(1, 100_000),
    default=10,
    show_default=True,
    metavar="N",
    help="Time so many steps of each phase, and as many again under torch's profiler.",
)
@click.option(
    "--threads",
    type=Number(1, 1024),
    multiple=True,
    metavar="N",
    help="Time the steps with so many threads too. Repeatable: --threads 1 --threads 2.",
)
@asking(data_option, set_option)
@device_option
@precision_option
@click.option(
    "--trace", metavar="FILE", help="Write a Chrome trace, for chrome://tracing or ui.perfetto.dev."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def profile(
    recipe: str,
    asked: Asked,
    steps: int,
    threads: tuple[int, ...],
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
    from budgetnet.cli.profile import Wanted, profile_recipe

    profile_recipe(recipe, asked, Wanted(steps, threads, trace, as_json), device, precision)
