"""`budgetnet export`: a trained model into a file that other programs run."""

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import ExportForm
from budgetnet.cli.options import data_option, gathered, images_argument, model_argument, set_option


@click.command()
@model_argument
@images_argument
@gathered(
    "form",
    ExportForm,
    click.option(
        "--to",
        type=click.Choice(["onnx", "pt2", "executorch", "litert", "c"]),
        default="onnx",
        show_default=True,
        help="Format.",
    ),
    click.option("--out", metavar="FILE", help="By default beside the model's file."),
    click.option(
        "--batch",
        type=click.Choice(["1", "dynamic"]),
        help="Images that go in at once: one, or any number (default where the format can: onnx, pt2).",
    ),
    click.option("--int8", is_flag=True, help="Eight bits for weights and activations (not pt2)."),
    click.option(
        "--calibrate",
        metavar="PHOTOS",
        help="Photos that the ranges of --int8 are taken from; by default training images of RECIPE.",
    ),
    click.option(
        "--tolerate",
        type=click.FloatRange(0.01, 100),
        default=0.5,
        show_default=True,
        metavar="POINTS",
        help="The most accuracy that --int8 may cost.",
    ),
    click.option("--bytes", "most", metavar="BYTES", help="The most that the file may weigh, such as 300KB."),
    click.option("--ram", metavar="BYTES", help="The most that the arena may take, such as 64KB (to c)."),
)
@gathered("asked", Asked, data_option, set_option)
def command(target: str, recipe: str | None, form: ExportForm, asked: Asked) -> None:
    """Write a trained model for other programs to run.

    As ONNX, as a program of torch.export, ExecuTorch or LiteRT, or as the last in C, for microcontrollers.

    The file and the model are shown the validation images of RECIPE (with --data or --int8 the run names it
    itself, where budgetnet brings it along), else the photos in --data, else noise, and compared in one
    table. A file that is not the same model, or is over the model's budget of bytes, is not written. Beside
    it preprocess.md says how a photo becomes its input. `budgetnet predict FILE.onnx photos/` uses it. All
    but pt2 need the extra of their name: pip install 'budgetnet[onnx]'; c needs litert.
    """
    from budgetnet.cli.export import export_target

    export_target(target, recipe, asked, form)
