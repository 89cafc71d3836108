"""`budgetnet run`: a recipe file trained, or looked at before it is."""

import math
from pathlib import Path
from tempfile import mkdtemp

from torch import nn

from budgetnet import checkpoint
from budgetnet.checkpoint import any_in
from budgetnet.cli.offline import at_hand
from budgetnet.cli.options import Asked
from budgetnet.cli.outlook import (
    check_resolutions,
    data_line,
    device_line,
    show_model,
    show_phases,
    work,
    work_line,
)
from budgetnet.cli.target import find_run
from budgetnet.console import duration, percent, say
from budgetnet.modelfile import card, save
from budgetnet.owner import owned
from budgetnet.plan import Plan
from budgetnet.run import MODEL, RECORD, Run
from budgetnet.trainer import NotWritten, Session, Trainer, check_out


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
    plan = asked.plan(recipe)
    folder = _folder_name(name or plan.name)
    resume = None
    if session.resume is not None:
        resume = _unfinished(str(session.resume), Path(trainer.out or "runs"), folder)
        if resume is not None and _over(resume, asked):
            say(f"the run in {resume} is finished: nothing is left to do")
            return Run.read(resume)
        if resume is None and not quiet:
            say(f"no unfinished run of {folder} lies in {trainer.out}: a new one begins")
    if resume is not None:
        asked = asked.as_before(Run.read(resume).record)
        plan = asked.plan(recipe)
    after = str(find_run(str(session.after))) if session.after is not None else None
    model = _checked_model(plan)
    if not quiet:
        _introduce(plan, model)
    if resume is None:
        check_out(trainer.out, (folder,), model, plan.recipe)
    data = plan.data()
    if not quiet:
        say(data_line(data))
        say(device_line(trainer.device))
        show_phases(plan.recipe, len(data.train))
    run = Run(record=asked.record(plan), source=plan.source)
    epochs = trainer.epochs(
        model,
        data,
        plan.recipe,
        run,
        resume=resume,
        after=after,
        max_time=session.max_time,
        allow=session.allow,
    )
    if resume is None:
        # Only now: what was refused leaves no folder.
        run.folder = Run.new(trainer.out or "runs", folder).folder
    try:
        for _ in epochs:
            pass
    except NotWritten as error:
        raise _rescued(error) from None
    if quiet:
        say(result_line(run))
    return run


def _rescued(error: NotWritten) -> NotWritten:
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


def _unfinished(asked: str, out: Path, name: str) -> Path | None:
    """The run to go on with: the one asked for, or else the newest of this name, if it is not finished."""
    if asked:
        return find_run(asked)
    numbered = {
        int(path.name.removeprefix(f"{name}-")): path
        for path in out.glob(f"{name}-*")
        if path.name.removeprefix(f"{name}-").isdigit() and (path / RECORD).exists()
    }
    newest = numbered[max(numbered)] if numbered else None
    # A run that was killed before its first checkpoint has nothing to go on from, and lost nothing.
    held = newest is not None and any_in(newest)
    return newest if held else None


def _over(folder: Path, asked: Asked) -> bool:
    """Whether a run is finished, and nothing else asked of it; killed as it ended, it has checkpoints."""
    if Run.read(folder).status != "finished" or asked != Asked(asked.root):
        return False
    with owned(folder):
        checkpoint.remove(folder)
    return True


def dry_run(recipe: str, asked: Asked, trainer: Trainer, *, name: str | None = None, seeds: int = 1) -> None:
    """Check and show all that `run` would do, and train nothing; data are used if they are at hand."""
    plan = asked.plan(recipe)
    folder = _folder_name(name or plan.name)
    model = _checked_model(plan)
    _introduce(plan, model)
    for note in check_out(trainer.out, (folder,), model, plan.recipe, runs=seeds):
        say(f"note: {note}")
    data, missing = at_hand(plan)
    if data is None:
        say(f"data: {missing}")
        say("what needs the data was not checked")
    else:
        notes = trainer.check(model, data, plan.recipe)
        say(data_line(data))
        for note in notes:
            say(f"note: {note}")
    say(device_line(trainer.device))
    show_phases(plan.recipe, len(data.train) if data is not None else None)
    if data is not None:
        validation = len(data.val) if data.val is not None else 0
        say(work_line(work(model, plan.recipe, len(data.train), validation)))
    say("dry run: nothing was trained")


def _checked_model(plan: Plan) -> nn.Module:
    model = plan.model()
    check_resolutions(model, plan.recipe)
    return model


def _introduce(plan: Plan, model: nn.Module) -> None:
    say(plan.title)
    show_model(model, plan.recipe.phases[-1].last_resolution)


def _folder_name(name: str) -> str:
    if not name or Path(name).name != name:
        raise ValueError(f"a run's name should be the name of a folder, without slashes, not {name!r}")
    return name


def result_line(run: Run) -> str:
    """A finished run's figures and folder in one line."""
    figures = [
        f"{title} {percent(run.result[key])}"
        for key, title in (("val_accuracy", "validation"), ("test_accuracy", "test"))
        if key in run.result
    ]
    seconds = duration(float(run.result.get("seconds", math.nan)))
    return "  ".join([*figures, seconds, str(run.folder)])
