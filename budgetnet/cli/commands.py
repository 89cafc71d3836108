"""The commands with their arguments, options and help; each imports what does its work when it is called."""

from collections.abc import Callable
from typing import Any, Literal

import click

import budgetnet
from budgetnet.cli.failures import MISTAKEN, PAUSED, Commands
from budgetnet.cli.options import (
    Asked,
    asking,
    data_option,
    device_option,
    scale_option,
    seed_option,
    set_option,
)

# Nothing here imports torch or rich at the top: --help should answer at once.


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(budgetnet.__version__, prog_name="budgetnet", message="%(prog)s %(version)s")
def main() -> None:
    """Train small image classifiers from scratch under a hard budget.

    Begin with `budgetnet run quickstart`, or with `budgetnet list`.

    Exit codes: 0, 1 for a failed run, 2 for a mistake in the command or the recipe, 4 for a NaN or infinity
    in training, 75 at the time limit, 130 after Ctrl-C, 143 after SIGTERM.
    """


def _out(default: str, help: str) -> Callable[[Any], Any]:
    return click.option("--out", default=default, show_default=True, metavar="DIR", help=help)


@main.command()
@click.argument("recipe", metavar="FILE|NAME")
@_out("runs", "Where the run's numbered folder is made.")
@asking(data_option, scale_option, set_option, seed_option)
@device_option
@click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "float32"]),
    default="auto",
    show_default=True,
    help="auto: bf16 on CUDA, float32 on a CPU, where bf16 pays if the processor has it.",
)
@click.option("--name", help="What the run's folder is called; by default as the recipe.")
@click.option(
    "--dry-run", is_flag=True, help="Check and show everything, and stop before training; no download."
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    metavar="N",
    help="Train N runs, with the seed and those that follow it, and show the spread of their figures.",
)
@click.option(
    "--max-time",
    metavar="TIME",
    help="End the session at a step's end after so long (11h30m, 90s), exit with 75; --resume goes on.",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[RUN]",
    help="Go on with an unfinished run exactly: RUN, or the newest of this recipe; or begin it.",
)
@click.option(
    "--after", metavar="RUN", help="Begin this recipe's schedule from the weights of RUN, with its history."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the result.")
def run(
    recipe: str,
    asked: Asked,
    out: str,
    device: str | None,
    precision: Literal["auto", "bf16", "float32"],
    name: str | None,
    dry_run: bool,
    seeds: int | None,
    max_time: str | None,
    resume: str | None,
    after: str | None,
    quiet: bool,
) -> None:
    """Train a recipe: a file, or one that comes along.

    The run is written to a new folder: model.safetensors, run.json, and metrics.jsonl with a line an epoch.
    Ctrl-C and SIGTERM end it at a step's end, ready for --resume.
    """
    from budgetnet.cli.run import Session, run_recipe
    from budgetnet.cli.run import dry_run as try_out
    from budgetnet.trainer import Trainer

    trainer = Trainer(device, precision=precision, out=out, show=not (quiet or dry_run))
    if seeds is not None and (max_time, resume, after) != (None, None, None):
        raise click.UsageError(
            "--seeds trains new runs to their end, without --max-time, --resume and --after"
        )
    if dry_run:
        try_out(recipe, asked, trainer)
    elif seeds is not None:
        from budgetnet.cli.seeds import run_seeds

        run_seeds(recipe, asked, trainer, name=name, quiet=quiet, seeds=seeds)
    else:
        session = Session(resume, after, max_time)
        done = run_recipe(recipe, asked, trainer, name=name, quiet=quiet, session=session)
        if done.status == "paused":
            click.get_current_context().exit(PAUSED)


@main.command()
@click.argument("recipe", metavar="FILE|NAME")
@click.option(
    "--over",
    multiple=True,
    required=True,
    metavar="PATH=VALUE,VALUE",
    help="Try these values of one setting, as --set names it. Repeatable: all combinations are tried.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Train each combination with N seeds.",
)
@click.option(
    "--metric",
    type=click.Choice(["val_accuracy", "val_loss"]),
    default="val_accuracy",
    show_default=True,
    help="The mean of what, on the validation images, decides.",
)
@_out("runs", "Where the sweep's folder is made.")
@asking(data_option, scale_option, set_option, seed_option)
@device_option
@click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "float32"]),
    default="auto",
    show_default=True,
    help="As for run.",
)
@click.option("--name", help="What the sweep's folder is called; by default RECIPE-sweep-N.")
@click.option(
    "--resume",
    is_flag=True,
    help="Train only what is not finished yet in the folder of this --name, or the latest.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the result.")
def sweep(
    recipe: str,
    over: tuple[str, ...],
    asked: Asked,
    seeds: int,
    metric: Literal["val_accuracy", "val_loss"],
    out: str,
    device: str | None,
    precision: Literal["auto", "bf16", "float32"],
    name: str | None,
    resume: bool,
    quiet: bool,
) -> None:
    """Train a recipe with every combination of some settings.

    One is chosen on the validation images. The trials never see the test images; the chosen setting is
    measured on them in the end, once. Every run has a folder, beside sweep.json and sweep.csv.
    """
    from budgetnet.cli.sweep import Swept, sweep_recipe
    from budgetnet.trainer import Trainer

    trainer = Trainer(device, precision=precision, out=out, show=not quiet)
    sweep_recipe(recipe, asked, trainer, over, Swept(seeds, metric, name, resume))


@main.command()
@click.argument("target", metavar="FILE|NAME|RUN|MODEL")
@click.option(
    "--resolution",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="PIXELS",
    help="Count MACs at this resolution instead of the recipe's or the model's. Repeatable.",
)
@click.option("--depth", type=click.IntRange(min=1), help="Add up modules by this many parts of their names.")
@click.option("--budget", metavar="AMOUNT", help='Check against so many parameters: "2M".')
@click.option(
    "--summary",
    "layers",
    is_flag=True,
    help="List the layers in the order of execution, as torchsummary does.",
)
@click.option(
    "--recipe", help="The recipe file whose model() builds a model that budgetnet cannot by itself."
)
@asking(set_option)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def count(
    target: str,
    asked: Asked,
    resolution: tuple[int, ...],
    depth: int | None,
    budget: str | None,
    layers: bool,
    recipe: str | None,
    as_json: bool,
) -> None:
    """Show what a model costs, module by module.

    Parameters, MACs, activations, and what its budget leaves. The model is a recipe's (FILE or NAME), a
    run's (its folder) or a saved one (MODEL.safetensors).
    """
    from budgetnet.cli.count import View, count_target

    count_target(target, asked, recipe, View(resolution, depth, budget, as_json, layers))


@main.command()
@click.argument("target", metavar="RUN|MODEL")
@click.argument("recipe", metavar="RECIPE", required=False)
@click.option(
    "--split",
    type=click.Choice(["val", "test", "train"]),
    default="val",
    show_default=True,
    help="Which part.",
)
@click.option(
    "--resolution", type=click.IntRange(min=1), metavar="PIXELS", help="By default the model's own."
)
@click.option(
    "--resize",
    type=click.IntRange(min=1),
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


@main.command()
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
@click.option(
    "--resolution", type=click.IntRange(min=1), metavar="PIXELS", help="By default the model's own."
)
@click.option(
    "--recipe", help="The recipe file whose model() builds a model that budgetnet cannot by itself."
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
    device: str | None,
) -> None:
    """Say what is on image files."""
    from budgetnet.cli.predict import Written, predict_files

    predict_files(
        target, files, Written(layout, indices, out), resolution=resolution, recipe=recipe, device=device
    )


@main.command()
@click.argument("target", metavar="DATA|FILE|NAME", required=False)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Store the photos at this size, as folder(size=) will want them; by default nothing is kept.",
)
@click.option(
    "--shape",
    type=click.Choice(["crop", "squash"]),
    default="crop",
    show_default=True,
    help="How photos become square, as for folder().",
)
@click.option("--policies", is_flag=True, help="Print what is done with each kind of oddity, and stop.")
@asking(data_option, set_option)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, every file named.")
def check(
    target: str | None,
    asked: Asked,
    size: int | None,
    shape: Literal["crop", "squash"],
    policies: bool,
    as_json: bool,
) -> None:
    """Look at data before they are trained on.

    DATA is a folder of photos, every one of which is read once; a recipe's data() are loaded and looked at,
    nothing is downloaded. All that is odd is named, with what is done about it, and the images of each class
    are counted. Exits with 2 where a run would be refused.
    """
    from budgetnet.cli.check import check_target, show_policies

    if policies:
        show_policies()
    elif target is None:
        raise click.UsageError("name a folder of photos or a recipe, or ask for --policies")
    elif check_target(target, asked, size, shape, as_json=as_json).refused:
        click.get_current_context().exit(MISTAKEN)


@main.command()
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


@main.command("list")
@_out("runs", "The folder that holds the runs.")
def list_(out: str) -> None:
    """List the recipes that come along, and the runs."""
    from budgetnet.cli.shelf import list_shelf

    list_shelf(out)


@main.command()
@click.argument("name", metavar="NAME")
@click.argument("to", metavar="[TO]", required=False)
def copy(name: str, to: str | None) -> None:
    """Copy a recipe that comes along, to change it.

    It becomes the file TO, or a file in the folder TO; by default NAME.py here. Nothing is ever overwritten.
    """
    from budgetnet.cli.shelf import copy_recipe

    copy_recipe(name, to)


@main.command()
@click.argument("recipe", metavar="FILE|NAME")
@click.option("--out", metavar="DIR", help="Where the PNG files go.  [default: preview/NAME]")
@asking(data_option, scale_option, set_option, seed_option)
def preview(recipe: str, asked: Asked, out: str | None) -> None:
    """Show a recipe's schedules and augmented images.

    The schedules are plotted here and into schedule.png; for each phase a grid of training views becomes a
    PNG too, where the data are at hand: nothing is downloaded.
    """
    from budgetnet.cli.preview import preview_recipe

    preview_recipe(recipe, asked, out)
