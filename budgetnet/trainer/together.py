"""Together: what is asked of a run that several processes train, and which run they go on with."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from budgetnet.compare import differences
from budgetnet.engine import Speed, SpeedChoice, Team
from budgetnet.files import checkpoint, folders_of
from budgetnet.process import launched
from budgetnet.recipe import Recipe
from budgetnet.run import Run
from budgetnet.trainer.changes import line


def launch_mark() -> str:
    """What the processes of one launch, and those that it starts again, have in common; "" for none."""
    if launched() is None:
        return ""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return f"process {os.getppid()}" if name == "none" else name


def started_again(out: str | Path, name: str) -> Path | None:
    """The run that processes which were started again go on with, or that is over, as one of them had failed.

    None where nothing was started again, or where the run had no checkpoint: it begins anew.
    """
    launch = launched()
    if launch is None or not launch.restarts:
        return None
    for folder in reversed(folders_of(Path(out), name)):
        with suppress(ValueError):
            run = Run.read(folder)
            sessions = run.record.get("sessions") or [{}]
            ours = sessions[-1].get("launch") == launch_mark()
            if ours and (run.over or checkpoint.any_in(folder)):
                return folder
    return None


def check_together(team: Team, recipe: Recipe, images: int, *, within: object, speed: Speed) -> None:
    """Refuse what several processes cannot do together. Raises ValueError."""
    if team.alone:
        return
    if within is not None:
        raise ValueError(
            f"within (--within) measures the steps of one process, and {team.size} train together: give the "
            "scale itself (--scale)"
        )
    if speed not in ("auto", "eager"):
        raise ValueError(f"speed should be 'auto' or 'eager' for {team.size} processes, not {speed!r}")
    least = team.size * (1 if team.synchronised else 2)
    for number, phase in enumerate(recipe.phases, start=1):
        size = phase.steps(images, recipe.batch_size)[1]
        if size < least:
            raise ValueError(
                f"phase {number}: a batch should have at least {least} images for {team.size} processes, not "
                f"{size}; start fewer, or give it a larger batch_size"
            )


def eager_together(team: Team) -> SpeedChoice:
    """How the steps of several processes are executed."""
    return SpeedChoice("eager", f"{team.size} processes draw for the whole batch, which is not compiled")


def notes_together(team: Team, model: nn.Module) -> list[str]:
    """What is worth noting of a run that several processes train."""
    if team.alone or team.synchronised or not any(isinstance(each, _BatchNorm) for each in model.modules()):
        return []
    return [
        f"batch norms normalise by the share of each of {team.size} processes, and their running statistics "
        "are the means of theirs: the figures are those of smaller batches there; sync_batchnorm=True "
        "(--sync-batchnorm) has them see the whole batch"
    ]


def check_alike(team: Team, terms: Mapping[str, Any]) -> None:
    """Refuse processes that would train different things. Raises ValueError in all of them."""
    if team.alone:
        return
    own = {key: value for key, value in terms.items() if key != "where"}
    theirs = team.led(lambda: own)
    parts = differences([theirs, own])
    if team.agreed(int(bool(parts))):
        told = "; ".join(map(line, parts[:3])) or "another process differs from the first"
        raise ValueError(
            f"all processes should train the same, and process {team.rank} differs from process 0: {told}"
            if parts
            else f"all processes should train the same, and {told}"
        )
