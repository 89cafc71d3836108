"""`budgetnet export`: a trained model into a file that other programs run, compared on a recipe's images."""

from pathlib import Path

from budgetnet.cli.asked import Asked
from budgetnet.cli.choices import ExportForm
from budgetnet.cli.options import idle
from budgetnet.cli.trained import load_trained, shipped_recipe, trained
from budgetnet.console import say
from budgetnet.data import Data
from budgetnet.exporting import FORMATS, Int8, export
from budgetnet.modelfile import read_card


def export_target(target: str, recipe: str | None, asked: Asked, form: ExportForm) -> None:
    """Export the model that `target` names, and print how both compare."""
    if not form.int8:
        idle("they say how --int8 rounds", "--calibrate", "--tolerate")
    int8 = Int8(form.calibrate, form.tolerate)
    loaded = trained(target)
    # Where images are wanted: those of the recipe that the run names, if it comes along.
    if recipe is None and (form.int8 or asked.root is not None):
        recipe = shipped_recipe(loaded, target)
    if recipe is None:
        idle("it changes what a recipe says, and none is named", "--set")
    plan = None if recipe is None else loaded.plan(asked, recipe)
    data: Data | str | None = asked.root if plan is None else plan.data()
    model = loaded.file if read_card(loaded.file).builder is not None else load_trained(loaded, plan)
    if data is None:
        say(
            f"note: compared on noise; for real images name the recipe: budgetnet export {target} "
            f"{loaded.recipe_file or 'RECIPE'} --data DIR",
            error=True,
        )
    if isinstance(data, Data):
        for note in loaded.flattered(data.val, "val"):
            say(f"note: {note}", error=True)
    along = loaded.file.stem == target and not Path(target).exists()
    beside = Path(loaded.file.name) if along else loaded.file
    exported = export(
        model,
        form.to,  # type: ignore[arg-type]
        out=form.out or beside.with_suffix(FORMATS[form.to].suffix),
        data=data,
        batch=1 if form.batch == "1" else form.batch,  # type: ignore[arg-type]
        int8=int8 if form.int8 else False,
        bytes=form.most,
        ram=form.ram,
    )
    say(str(exported))
