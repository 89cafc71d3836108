"""`budgetnet evaluate`: measure a trained model on labelled images."""

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import Measured
from budgetnet.cli.options import (
    PIXELS,
    data_option,
    device_option,
    gathered,
    images_argument,
    json_option,
    looks_options,
    mean_resolution_option,
    model_argument,
    others_option,
    set_option,
    trust_option,
)


@click.command()
@model_argument
@images_argument
@gathered(
    "how",
    Measured,
    click.option(
        "--split",
        type=click.Choice(["val", "test", "train"]),
        default="val",
        show_default=True,
        help="Which part.",
    ),
    others_option,
    *looks_options,
    mean_resolution_option,
    click.option(
        "--resize",
        type=PIXELS,
        metavar="PIXELS",
        help="The side that images come to before the crop to the resolution, such as 232 for 224; by "
        "default the model's.",
    ),
    click.option(
        "--resolutions",
        metavar="FIRST:LAST:STEP",
        help="Measure at each of these and plot accuracy and MACs: 60:200:20, or a list such as 64,96,128.",
    ),
    click.option(
        "--plot", metavar="FILE", help="Where that plot goes; by default resolutions.png in the run's folder."
    ),
    device_option,
    json_option("Print one JSON object, the confusion matrix included."),
    trust_option,
)
@gathered("asked", Asked, data_option, set_option)
def command(target: str, recipe: str | None, how: Measured, asked: Asked) -> None:
    """Measure a trained model on labelled images.

    Accuracy with its 95 % interval, top-5, loss, precision, recall and F1 of each class, and what the largest
    class alone would reach. The images are those of RECIPE's data(): a recipe is a program,
    and none is executed unless you name it. What the run had changed with --set data.NAME=VALUE is changed
    here too.
    """
    from budgetnet.cli.evaluate import evaluate_target

    evaluate_target(target, recipe, asked, how)
