"""`budgetnet sweep`: a recipe trained with every combination of some settings."""

from dataclasses import dataclass

from budgetnet.cli.compare import shown
from budgetnet.cli.options import Asked
from budgetnet.console import say
from budgetnet.sweep import Metric, read_over, sweep
from budgetnet.together import Together
from budgetnet.trainer import Trainer, TrainingFailed


@dataclass(frozen=True)
class Swept:
    """How many seeds each setting gets, what chooses, which folder is used, and how many go at once."""

    seeds: int
    metric: Metric
    name: str | None
    resume: bool
    together: Together = 1


def sweep_recipe(recipe: str, asked: Asked, trainer: Trainer, over: tuple[str, ...], how: Swept) -> None:
    """Train a recipe over a grid of settings, and print the trials, the best first."""
    values = read_over(over)
    plan = asked.plan(recipe)
    if trainer.show:
        say(plan.title)
    found = sweep(
        trainer,
        plan,
        values,
        seeds=how.seeds,
        metric=how.metric,
        name=how.name,
        resume=how.resume,
        together=how.together,
        record=asked.record(plan),
    )
    if trainer.show:
        say()
    say(shown(str(found)))
    say(f"the sweep lies in {found.folder}: sweep.json, sweep.csv, and a folder for each run")
    if found.selected is None:
        raise TrainingFailed("no trial of the sweep came to a validation figure; see above why")
