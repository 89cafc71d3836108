"""`budgetnet compress`: a trained model into a file of so many bytes, trained anew on a recipe's images."""

import re
from dataclasses import replace
from pathlib import Path

import click

from budgetnet.cli.asked import Asked
from budgetnet.cli.failures import PAUSED
from budgetnet.cli.resume import over, sought
from budgetnet.cli.run import rescued
from budgetnet.cli.trained import Trained, load_trained, shipped_recipe, trained
from budgetnet.compression import Goal, compressed, finetuning
from budgetnet.console import say
from budgetnet.files import check_name
from budgetnet.modelfile import Card, read_card
from budgetnet.run import MODEL, Run
from budgetnet.trainer import NotWritten, Session, Trainer


def compress_target(
    target: str,
    recipe: str | None,
    goal: Goal,
    trainer: Trainer,
    asked: Asked,
    session: Session,
    named: tuple[str | None, str],
) -> None:
    """Compress the model that `target` names, and print how both compare.

    `named` are the run's name, if it has one, and the bytes as they were typed, after which it is called.
    """
    large = trained(target)
    recipe = recipe or shipped_recipe(large, target)
    if recipe is None:
        raise ValueError(
            "compress takes its images and views from a recipe, and executes no recipe that is not named; "
            f"name it: budgetnet compress {target} {large.recipe_file or 'RECIPE'}"
        )
    plan = large.plan(asked, recipe)
    _refuse_idle(large, recipe, asked, goal)
    name, most = named
    name = check_name(name or f"{plan.path.stem}_{re.sub('[^0-9a-z]', '', most.lower())}")
    if session.resume is not None:
        earlier = sought(session, Path(trainer.out or "runs"), name, quiet=False)
        if earlier is not None and over(earlier, Asked(asked.root)):
            return
        session = replace(session, resume=earlier.folder if earlier is not None else None)
    data = plan.data()
    model = large.file if read_card(large.file).builder is not None else load_trained(large, plan)
    fold = {} if large.fold is None else {"fold": large.fold}
    record = {**asked.record(plan), "settings": [*large.settings, *asked.settings], **fold}
    try:
        done = compressed(
            model, data, plan.recipe, goal, trainer, Run(record=record, source=plan.source), session, name
        )
    except NotWritten as error:
        raise rescued(error) from None
    if not done.run.over:
        click.get_current_context().exit(PAUSED)
    say(str(done))
    if done.run.folder is not None:
        click.echo(f"the file is {done.run.folder / MODEL}")


def _refuse_idle(large: Trained, recipe: str, asked: Asked, goal: Goal) -> None:
    """Refuse settings that change the recipe and nothing of what is taken from it. Raises ValueError."""

    def described(settings: tuple[str, ...]) -> tuple[object, object]:
        whole = large.plan(replace(asked, settings=settings), recipe).recipe
        short = finetuning(large.file, whole, Card(), 1, goal.epochs, goal.lr)
        return whole.describe(), short.describe()

    whole, short = described(asked.settings)
    for text in asked.settings:
        without, short_without = described(tuple(other for other in asked.settings if other != text))
        if without != whole and short_without == short:
            raise ValueError(
                f"--set {text} would do nothing: compress takes the views and the batches of the recipe's "
                "longest phase, and trains for --epochs at a rate of its own; leave it out"
            )
