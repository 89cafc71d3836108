"""`budgetnet predict`: say what is on image files."""

import click

from budgetnet.cli.choices import Predicting, Written
from budgetnet.cli.options import (
    device_option,
    gathered,
    json_option,
    looks_options,
    mean_resolution_option,
    model_argument,
    others_option,
    recipe_option,
    trust_option,
)


@click.command()
@model_argument
@click.argument("files", metavar="FILES_OR_FOLDERS...", nargs=-1, required=True)
@gathered(
    "how",
    Written,
    click.option(
        "--format",
        "layout",
        type=click.Choice(["table", "csv", "submission"]),
        default="table",
        show_default=True,
        help="submission: Id,Category, the file's name without its ending and its class.",
    ),
    click.option(
        "--like",
        metavar="SAMPLE.csv",
        help="Write a submission with the columns, the Ids and their order of this sample; probabilities "
        "where it has them.",
    ),
    click.option(
        "--indices", is_flag=True, help="Write the class's number instead of its name in a submission."
    ),
    click.option(
        "--top",
        type=click.IntRange(1, 1000),
        default=1,
        show_default=True,
        metavar="K",
        help="Name the K most probable classes.",
    ),
    click.option("--out", metavar="FILE", help="Write to FILE instead of the terminal."),
    click.option("--force", is_flag=True, help="Overwrite FILE where it is there already."),
    json_option("Print one JSON object."),
    trust_option,
)
@gathered(
    "asked",
    Predicting,
    others_option,
    mean_resolution_option,
    *looks_options,
    recipe_option,
    click.option(
        "--skip-unreadable",
        "skip",
        is_flag=True,
        help="Leave out and name images that cannot be read; exit 3.",
    ),
    device_option,
)
def command(target: str, files: tuple[str, ...], how: Written, asked: Predicting) -> None:
    """Say what is on image files.

    Of a folder, what is hidden or no image is left out and named. Images that cannot be read are refused,
    all at once, or with --skip-unreadable left out: then the exit code is 3. CSV and submission are UTF-8;
    bytes of a file's name that are not are written as \\xNN. In --format csv, a name that a spreadsheet
    would take for a formula (= + - @) has ./ (a file) or ' (a class) before it; the Ids of a submission
    stay as they are. Nothing is overwritten without --force.
    """
    from budgetnet.cli.predict import predict_files

    click.get_current_context().exit(predict_files(target, files, how, asked))
