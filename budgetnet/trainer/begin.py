"""Begin: everything that a training can be refused for is checked and read before anything is moved."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from budgetnet import guard
from budgetnet.budget import built
from budgetnet.data import Data
from budgetnet.engine import Engine, Speed, check, check_views, choose, trial
from budgetnet.files import locked
from budgetnet.modelfile import check_weight
from budgetnet.process import check_launch, steadfast_output
from budgetnet.recipe import Recipe
from budgetnet.run import Run
from budgetnet.trainer.chain import contract, follow, higher, resumed
from budgetnet.trainer.record import Begun, card_after
from budgetnet.trainer.stop import seconds


@dataclass(frozen=True)
class Session:
    """How a session begins and ends: the run that it goes on with, or follows; its time; what may differ."""

    resume: str | Path | None = None
    after: str | Path | None = None
    max_time: float | str | None = None
    allow: Sequence[str] = ()


def checked(model: nn.Module, data: Data, recipe: Recipe) -> list[str]:
    """Check all that can be without a step; gives what is worth noting. Raises ValueError."""
    noted = check(model, data, recipe)
    if built(model) is not None:
        for phase in recipe.phases:
            check_weight(model, card_after(model, data, phase))
    return list(dict.fromkeys([*data.notes, *guard.before(data, recipe), *noted]))


def begin(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    run: Run | None,
    *,
    engine: Engine,
    speed: Speed,
    session: Session,
) -> Begun:
    """Everything checked and read that can be refused; nothing is moved or written yet."""
    limit, launched = seconds(session.max_time), check_launch(_joined())
    allow = (session.allow,) if isinstance(session.allow, str) else tuple(session.allow)
    notes = [*launched, *checked(model, data, recipe)]
    if session.resume is not None and session.after is not None:
        raise ValueError(
            "a training goes on with a run exactly (resume=) or starts anew from its weights (after=): "
            "give one of them"
        )
    if allow and session.resume is None:
        raise ValueError(
            f"{', '.join(allow)} may change (allow=, --allow-change) in a run that goes on, and none does; "
            "give resume= (--resume) too, or leave it out"
        )
    run = run if run is not None else Run()
    with steadfast_output():
        check_views(data, recipe, engine.device)
        notes += trial(model, data, recipe, engine)
    way = choose(speed, engine.device, model, recipe, data.train)
    wanted = contract(model, data, recipe, engine) | {"speed": way.chosen, "source": run.record.get("source")}
    if session.resume is not None:
        folder = Path(session.resume)
        # Claimed before it is read: nobody else may go on with it meanwhile.
        claims = ExitStack()
        if folder.is_dir():
            claims.enter_context(locked(folder))
        try:
            found = resumed(folder, wanted, model, recipe, allow)
        except BaseException:
            claims.close()
            raise
        # What is asked now is the run's from here on, where it may differ or nothing else is known.
        earlier = found.run
        asked = run.record if found.changed or not earlier.record.get("recipe") else {}
        run.folder, run.history, run.record = earlier.folder, earlier.history, {**earlier.record, **asked}
        run.settle()
        begun = Begun(model, data, recipe, run, [*notes, *found.notes], limit, wanted, way, found.held)
        begun.claims, begun.changed, begun.moved = claims, found.changed, found.moved
        return begun
    begun = Begun(model, data, recipe, run, notes, limit, wanted, way)
    if session.after is None:
        begun.notes += guard.again(model, data)
    else:
        begun.earlier = follow(model, session.after, data)
        begun.notes += guard.chained(data, begun.earlier.record, guard.read_seen(Path(session.after)))
        begun.notes += higher(recipe, begun.earlier.history)
    return begun


def _joined() -> int:
    """How many processes torch.distributed has brought together with this one."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return 1
    return torch.distributed.get_world_size()
