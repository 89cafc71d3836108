"""`evaluate`, `predict` and `compare`: the commands that read what was trained."""

import click

from budgetnet.cli.options import (
    PIXELS,
    Asked,
    asking,
    data_option,
    device_option,
    set_option,
)


@click.command()
@click.argument("target", metavar="RUN|MODEL")
@click.argument("recipe", metavar="RECIPE", required=False)
@click.option(
    "--split",
    type=click.Choice(["val", "test", "train"]),
    default="val",
    show_default=True,
    help="Which part.",
)
@click.option("--resolution", type=PIXELS, metavar="PIXELS", help="By default the model's own.")
@click.option(
    "--resize",
    type=PIXELS,
    metavar="PIXELS",
    help="The shorter side before the crop to the resolution, such as 232 for 224; by default the model's.",
)
@click.option(
    "--resolutions",
    metavar="FIRST:LAST:STEP",
    help="Measure at each of these and plot accuracy and MACs: 60:200:20, or a list such as 64,96,128.",
)
@click.option(
    "--plot", metavar="FILE", help="Where that plot goes; by default resolutions.png in the run's folder."
)
@asking(data_option, set_option)
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, the confusion matrix included.")
def evaluate(
    target: str,
    recipe: str | None,
    asked: Asked,
    split: str,
    resolution: int | None,
    resize: int | None,
    resolutions: str | None,
    plot: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Measure a trained model on labelled images.

    Accuracy, top-5, loss, and each class. The images are those of RECIPE's data(): a recipe is a program,
    and none is executed unless you name it. What the run had changed with --set data.NAME=VALUE is changed
    here too.
    """
    from budgetnet.cli.evaluate import Measured, evaluate_target

    how = Measured(split, resolution, device, as_json, resize, resolutions, plot)
    evaluate_target(target, recipe, asked, how)


@click.command()
@click.argument("target", metavar="RUN|MODEL")
@click.argument("files", metavar="FILES_OR_FOLDERS...", nargs=-1, required=True)
@click.option(
    "--format",
    "layout",
    type=click.Choice(["table", "csv", "submission"]),
    default="table",
    show_default=True,
    help="submission: Id,Category, the file's name without its ending and its class.",
)
@click.option("--indices", is_flag=True, help="Write the class's number instead of its name in a submission.")
@click.option("--out", metavar="FILE", help="Write to FILE instead of the terminal.")
@click.option("--resolution", type=PIXELS, metavar="PIXELS", help="By default the model's own.")
@click.option(
    "--recipe", help="The recipe file whose model() builds a model that budgetnet cannot by itself."
)
@click.option(
    "--skip-unreadable", is_flag=True, help="Leave out and name images that cannot be read; exit 3."
)
@device_option
def predict(
    target: str,
    files: tuple[str, ...],
    layout: str,
    indices: bool,
    out: str | None,
    resolution: int | None,
    recipe: str | None,
    skip_unreadable: bool,
    device: str | None,
) -> None:
    """Say what is on image files.

    Of a folder, what is hidden or no image is left out and named. Images that cannot be read are refused,
    all at once, or with --skip-unreadable left out: then the exit code is 3. CSV and submission are UTF-8;
    bytes of a file's name that are not are written as \\xNN. In --format csv, a name that a spreadsheet
    would take for a formula (= + - @) has ./ (a file) or ' (a class) before it; the Ids of a submission
    stay as they are.
    """
    from budgetnet.cli.predict import Written, predict_files

    code = predict_files(
        target,
        files,
        Written(layout, indices, out),
        resolution=resolution,
        recipe=recipe,
        device=device,
        skip=skip_unreadable,
    )
    click.get_current_context().exit(code)


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--out", metavar="DIR", help="Where curves.png goes.  [default: compare]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; curves only with --out.")
def compare(runs: tuple[str, ...], out: str | None, as_json: bool) -> None:
    """Show what differs between runs, their figures, and their curves.

    Runs that are equal but for their seed form one group, with mean, standard deviation and range. No recipe
    is executed.
    """
    from budgetnet.cli.compare import compare_runs

    compare_runs(runs, out, as_json=as_json)
