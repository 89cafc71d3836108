"""`budgetnet run`: a recipe file trained, or looked at before it is."""

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from budgetnet.budget import traced_once, untimed
from budgetnet.cli.asked import Asked
from budgetnet.cli.overview import at_hand, checked_model, show_model, show_phases
from budgetnet.cli.resume import done_of, over, sought
from budgetnet.cli.trained import followed
from budgetnet.console import say
from budgetnet.engine import join
from budgetnet.files import check_name, new_folder
from budgetnet.modelfile import card, save
from budgetnet.run import MODEL, Run
from budgetnet.text import duration, percent
from budgetnet.trainer import (
    NotWritten,
    Session,
    Trainer,
    check_out,
    data_line,
    device_line,
    planned_before,
    started_again,
    takes,
    work,
    work_line,
)


def run_recipe(
    recipe: str,
    asked: Asked,
    trainer: Trainer,
    *,
    name: str | None,
    quiet: bool,
    session: Session,
) -> Run:
    """Train a recipe, by file or name; what can be found wrong without data is, before any are fetched."""
    base = asked.read(recipe)
    plan, scaled = asked.made(base), partial(asked.scaled, base)
    folder, out = check_name(name or plan.name), Path(trainer.out or "runs")
    team = join(trainer.device)
    if session.resume is None and (again := team.led(partial(started_again, out, folder))) is not None:
        session = replace(session, resume=again)
    earlier = None
    if session.resume is not None:
        earlier = team.led(partial(sought, session, out, folder, quiet=quiet))
    if earlier is not None and over(earlier, asked):
        return earlier
    session = aimed(session, earlier, out)
    if earlier is not None:
        asked = asked.as_before(earlier.record)
        plan = asked.plan(recipe)
    # A run that is gone on with was quick enough where it began.
    with traced_once(), nullcontext() if earlier is None else untimed():
        model = checked_model(plan)
        if not quiet:
            show_model(plan, model)
        if earlier is None:
            team.led(partial(check_out, trainer.out, (folder,), model, plan.recipe))
        with team.first():
            data = plan.data()
        if not quiet:
            say(data_line(data))
            say(device_line(trainer.device))
        if not quiet and session.within is None:
            show_phases(plan.recipe, data)
        run = Run(record=asked.record(plan), source=plan.source)
        session = replace(session, scaled=scaled)
        epochs = trainer.start(model, data, plan.recipe, run, session, partial(new_folder, out, folder))
        if not quiet and session.within is not None:
            show_phases(scaled(run.record["scale"]), data)
    try:
        for _ in epochs:
            pass
    except NotWritten as error:
        raise rescued(error) from None
    if quiet:
        say(result_line(run))
    return run


def rescued(error: NotWritten) -> NotWritten:
    """The error, and where the weights lie that would end with this process."""
    model = error.run.model
    if model is None or card(model) is None:
        return error
    try:
        path = Path(mkdtemp(prefix="budgetnet-")) / MODEL
        save(model, path)
    except (OSError, ValueError):
        return error
    return NotWritten(f"{error}; as this process ends, they were saved to {path}", error.run)


@traced_once()
def run_dry(
    recipe: str,
    asked: Asked,
    trainer: Trainer,
    *,
    name: str | None = None,
    seeds: int = 1,
    session: Session,
) -> None:
    """Check and show all that `run` would do, and train nothing; data are used if they are at hand."""
    begun, base = time.monotonic(), asked.read(recipe)
    plan = asked.made(base)
    folder, out = check_name(name or plan.name), Path(trainer.out or "runs")
    earlier = sought(session, out, folder, quiet=False) if session.resume is not None else None
    if earlier is not None and over(earlier, asked):
        return
    session = aimed(session, earlier, out)
    if earlier is not None:
        asked = asked.as_before(earlier.record)
        plan = asked.plan(recipe)
    model = checked_model(plan)
    show_model(plan, model)
    if earlier is None:
        for note in check_out(trainer.out, (folder,), model, plan.recipe, runs=seeds):
            say(f"note: {note}")
    data, missing = at_hand(plan)
    if data is not None and asked.folds is not None:
        data = data.folds(asked.folds)[0]
    if data is None:
        say(f"data: {missing}")
        say("what needs the data was not checked")
    else:
        run = Run(record=asked.record(plan), source=plan.source)
        notes = trainer.check(model, data, plan.recipe, run, replace(session, within=None))
        say(data_line(data))
        for note in notes:
            say(f"note: {note}")
    say(device_line(trainer.device))
    if data is not None and session.within is not None:
        scaled = partial(asked.scaled, base)
        found = trainer.planned(model, data, scaled, session.within, begun=begun, runs=seeds)
        plan = replace(plan, recipe=scaled(found.scale))
        for line in found.lines:
            say(line)
    show_phases(plan.recipe, data)
    done = done_of(earlier, len(plan.recipe.phases)) if earlier is not None else ()
    if earlier is not None:
        epochs = sum(phase.epochs for phase in plan.recipe.phases)
        say(
            f"it would go on with the run in {earlier.folder}, which is {earlier.status}: {sum(done):,} of "
            f"{epochs:,} epochs are behind it"
        )
    if data is not None:
        say(work_line(work(model, plan.recipe, data)))
        if session.within is None:
            say(takes(trainer.forecast(model, data, plan.recipe), plan.recipe, done))
    say("dry run: nothing was trained")


def aimed(session: Session, earlier: Run | None, out: Path) -> Session:
    """The session that goes on with the `earlier` run that was found, or begins a new one, in full.

    Raises ValueError where the run that a new one follows is not there, or where a time is asked for that the
    earlier run was not begun with.
    """
    if earlier is None:
        after = str(followed(str(session.after), out)) if session.after is not None else None
        return replace(session, resume=None, after=after)
    if session.within is not None and earlier.folder is not None:
        planned_before(earlier.folder, session.within)
    # It began after that run already, at the scale that its record tells.
    return replace(session, resume=earlier.folder, after=None, within=None)


def result_line(run: Run) -> str:
    """A finished run's figures and folder in one line."""
    figures = [
        f"{title} {percent(run.result[key])}"
        for key, title in (("val_accuracy", "validation"), ("test_accuracy", "test"))
        if key in run.result
    ]
    seconds = duration(float(run.result.get("seconds", math.nan)))
    return "  ".join([*figures, seconds, str(run.folder)])
