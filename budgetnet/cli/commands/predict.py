"""`budgetnet predict`: say what is on image files."""

import click

from budgetnet.cli.options import (
    PIXELS,
    Written,
    device_option,
    gathered,
    json_option,
    model_argument,
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
        "--indices", is_flag=True, help="Write the class's number instead of its name in a submission."
    ),
    click.option("--out", metavar="FILE", help="Write to FILE instead of the terminal."),
    json_option("Print one JSON object."),
    trust_option,
)
@click.option("--resolution", type=PIXELS, metavar="PIXELS", help="By default the model's own.")
@recipe_option
@click.option(
    "--skip-unreadable", "skip", is_flag=True, help="Leave out and name images that cannot be read; exit 3."
)
@device_option
def command(
    target: str,
    files: tuple[str, ...],
    how: Written,
    resolution: int | None,
    recipe: str | None,
    skip: bool,
    device: str | None,
) -> None:
    """Say what is on image files.

    Of a folder, what is hidden or no image is left out and named. Images that cannot be read are refused,
    all at once, or with --skip-unreadable left out: then the exit code is 3. CSV and submission are UTF-8;
    bytes of a file's name that are not are written as \\xNN. In --format csv, a name that a spreadsheet
    would take for a formula (= + - @) has ./ (a file) or ' (a class) before it; the Ids of a submission
    stay as they are.
    """
    from budgetnet.cli.predict import predict_files

    code = predict_files(target, files, how, resolution=resolution, recipe=recipe, device=device, skip=skip)
    click.get_current_context().exit(code)
