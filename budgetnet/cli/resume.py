"""What `run --resume` goes on with: the run that is named, or the newest unfinished one of a name."""

from pathlib import Path

from budgetnet.cli.asked import Asked
from budgetnet.cli.trained import find_run, followed
from budgetnet.console import say
from budgetnet.files import checkpoint, folders_of
from budgetnet.run import Epoch, Run
from budgetnet.trainer import Session, unfinished


def sought(session: Session, out: Path, name: str, *, quiet: bool) -> Run | None:
    """The run that a session with --resume is to go on with, None where a new one begins.

    Without a name it is the newest of this `name` in `out` that is unfinished; with --after one of those
    that began from that run's weights, so that the same command line begins a run and goes on with it.
    """
    after = followed(str(session.after), out) if session.after is not None else None
    if session.resume:
        run = unfinished(find_run(str(session.resume), out))
        if after is not None and not _follows(run, after):
            raise ValueError(
                f"the run in {run.folder} should have begun from the weights of {after} (--after), and began "
                f"from {run.record.get('after') or 'none'}; leave one of the two out"
            )
        return run
    # A run that was killed before its first checkpoint has nothing to go on from, and lost nothing.
    runs = [run for folder in folders_of(out, name) if checkpoint.any_in(folder) for run in _read(folder)]
    if after is not None:
        runs = [run for run in runs if _follows(run, after)]
    runs.sort(key=lambda run: run.started)
    # Killed as it ended, a finished run still has checkpoints.
    newest = runs[-1] if runs and runs[-1].over else None
    left = [run for run in runs if not run.over]
    if not quiet:
        _tell(newest, left, f"{name}{'' if after is None else f' after {after}'}", out)
    return newest or (left[-1] if left else None)


def _tell(newest: Run | None, left: list[Run], name: str, out: Path) -> None:
    """Say what is gone on with where that is not plain."""
    if newest is None and not left:
        say(f"no unfinished run of {name} lies in {out}: a new one begins")
    others = left if newest is not None else left[:-1]
    if others:
        listed = ", ".join(f"{run.folder} ({run.status})" for run in others)
        say(f"note: there are older unfinished runs of {name}, to be named where they are meant: {listed}")


def over(run: Run, asked: Asked) -> bool:
    """Whether a run is finished, and nothing else asked of it than was; says so."""
    if not run.over or asked.as_before(run.record) != Asked(asked.root).as_before(run.record):
        return False
    assert run.folder is not None
    # Whoever finished a run removed them, or was killed before that; a record can be edited.
    left = (
        f"; its checkpoints are still there: remove {run.folder / checkpoint.FOLDER} if it is"
        if checkpoint.any_in(run.folder)
        else ""
    )
    say(f"the run in {run.folder} is {run.status}: nothing is left to do{left}")
    return True


def done_of(run: Run, phases: int) -> list[int]:
    """How many epochs of each of so many phases an unfinished run has behind it, in its own schedule."""
    newest, _ = checkpoint.newest(run.folder) if run.folder is not None else (None, [])
    own = [Epoch.read(line).phase for line in newest.state["history"]] if newest is not None else []
    return [own.count(number) for number in range(1, phases + 1)]


def _read(folder: Path) -> list[Run]:
    """The run in a folder; none where its record cannot be read, which is told."""
    try:
        return [Run.read(folder)]
    except ValueError as error:
        say(
            f"note: {error}; --resume {folder} goes on from its checkpoint, which has all that is needed",
            error=True,
        )
        return []


def _follows(run: Run, after: Path) -> bool:
    """Whether a run began from the weights of the run in `after`."""
    earlier = run.record.get("after")
    if not isinstance(earlier, str) or not earlier:
        return False
    path = Path(earlier)
    # Noted as it was typed, in a folder that need not be this one.
    return path.resolve() == after.resolve() or (not path.exists() and path.name == after.name)
