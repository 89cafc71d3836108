"""`budgetnet count`: show what a model costs."""

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import View
from budgetnet.cli.complete import either
from budgetnet.cli.options import PIXELS, gathered, json_option, recipe_option, set_option


@click.command()
@click.argument("target", metavar="FILE|NAME|RUN|MODEL", shell_complete=either)
@gathered(
    "view",
    View,
    click.option(
        "--resolution",
        type=PIXELS,
        multiple=True,
        metavar="PIXELS",
        help="Count MACs at this resolution instead of the recipe's or the model's. Repeatable.",
    ),
    click.option(
        "--depth",
        type=click.IntRange(1, 1000),
        metavar="N",
        help="Add up modules by this many parts of their names.",
    ),
    click.option(
        "--budget",
        metavar="AMOUNTS",
        help='Check against so many parameters, "2M", or "bytes=300KB, stored=int8, ram=64KB, latency=20ms".',
    ),
    click.option(
        "--summary",
        "layers",
        is_flag=True,
        help="List the layers in the order of execution, as torchsummary does.",
    ),
    json_option("Print one JSON object."),
)
@recipe_option
@gathered("asked", Asked, set_option)
def command(target: str, view: View, recipe: str | None, asked: Asked) -> None:
    """Show what a model costs, module by module.

    Parameters, MACs, activations, and what its budget leaves. The model is a recipe's (FILE or NAME), a
    run's (its folder) or a saved one (MODEL.safetensors).
    """
    from budgetnet.cli.count import count_target

    count_target(target, asked, recipe, view)
