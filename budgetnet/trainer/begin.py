"""Begin: everything that a training can be refused for is checked and read before anything is moved."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

import budgetnet.guard as guard
from budgetnet.budget import built, traced_once
from budgetnet.compare import Difference
from budgetnet.data import Data
from budgetnet.engine import (
    ALONE,
    Engine,
    Speed,
    SpeedChoice,
    Team,
    Training,
    check,
    check_kinds,
    check_views,
    choose,
    join,
    trial,
)
from budgetnet.files import Checkpoint, locked
from budgetnet.modelfile import Card, check_weight, described
from budgetnet.process import steadfast_output
from budgetnet.recipe import Phase, Recipe
from budgetnet.run import Epoch, Run
from budgetnet.text import seconds
from budgetnet.trainer.chain import Resumed, contract, follow, higher, resumed
from budgetnet.trainer.planned import behind, plan_within, planned_before
from budgetnet.trainer.together import check_alike, check_together, eager_together, notes_together


@dataclass(frozen=True)
class Session:
    """How a session begins and ends: the run that it goes on with, or follows; its time; what may differ.

    A new run is to end `within` a time from when this was made (`begun`, by the monotonic clock), at whatever
    scale of the recipe: `scaled` gives it, by default its own `scaled`.
    """

    resume: str | Path | None = None
    after: str | Path | None = None
    max_time: float | str | None = None
    allow: Sequence[str] = ()
    within: float | str | None = None
    scaled: Callable[[float], Recipe] | None = None
    begun: float = field(default_factory=time.monotonic)


def checked(model: nn.Module, data: Data, recipe: Recipe) -> list[str]:
    """Check all that can be without a step; gives what is worth noting. Raises ValueError."""
    noted = check(model, data, recipe)
    if built(model) is not None:
        for phase in recipe.phases:
            check_weight(model, card_after(model, data, phase))
    return list(dict.fromkeys([*data.notes, *guard.before(data, recipe), *noted]))


@dataclass
class Start:
    """A training that was checked and may begin: it goes on from `held`, or follows `earlier`, named `after`.

    `moved` says what lets its last bits differ from those of an uninterrupted run.
    """

    model: nn.Module
    data: Data
    recipe: Recipe
    run: Run
    notes: list[str]
    limit: float | None
    contract: dict[str, Any]
    speed_choice: SpeedChoice
    held: Checkpoint | None = None
    earlier: Run | None = None
    after: str | None = None
    claims: ExitStack = field(default_factory=ExitStack)
    started: bool = False
    changed: Sequence[Difference] = ()
    moved: Sequence[str] = ()
    team: Team = ALONE

    @property
    def session(self) -> tuple[int, tuple[Epoch, ...]]:
        """The number of this session, from 1, and the epochs of the sessions before it."""
        if self.held is not None:
            words = self.held.state
            return int(words["session"]), tuple(Epoch.read(line) for line in words["earlier"])
        earlier = tuple(self.earlier.history) if self.earlier is not None else ()
        number = 1 + max((epoch.session for epoch in earlier), default=1)
        return (number, earlier) if self.earlier is not None else (1, ())


@traced_once()
def begin(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    run: Run | None,
    *,
    engine: Engine,
    speed: Speed,
    session: Session,
) -> Start:
    """Everything checked and read that can be refused; nothing is moved or written yet."""
    team = join(engine.device, synchronised=engine.synchronised)
    check_kinds(model, data, recipe)
    check_together(team, recipe, len(data.train), within=session.within, speed=speed)
    limit, allow = seconds(session.max_time), _allowed(session)
    run = run if run is not None else Run()
    with steadfast_output():
        recipe, chosen = _scaled(model, data, recipe, run, engine=engine, speed=speed, session=session)
    notes = [*chosen, *checked(model, data, recipe), *notes_together(team, model)]
    with steadfast_output():
        check_views(data, recipe, engine.device)
        notes += trial(model, data, recipe, engine)
    speed_choice = choose(speed, engine.device, model, recipe, data.train)
    speed_choice = speed_choice if team.alone else eager_together(team)
    if speed not in ("auto", speed_choice.chosen):
        notes.append(f"speed {speed!r} is {speed_choice.chosen!r} here: {speed_choice.why}")
    terms = contract(model, data, recipe, engine, team) | {
        "speed": speed_choice.chosen,
        "source": run.record.get("source"),
    }
    check_alike(team, terms)
    _lead(run, team)
    start = Start(model, data, recipe, run, notes, limit, terms, speed_choice, team=team)
    if session.resume is not None:
        _go_on(start, Path(session.resume), allow)
        return start
    if session.after is None:
        start.notes += guard.again(model, data)
    else:
        start.earlier = earlier = follow(model, session.after, data)
        start.after = earlier.folder.as_posix() if earlier.folder is not None else str(session.after)
        seen = guard.read_seen(earlier.folder) if earlier.folder is not None else None
        start.notes += guard.chained(data, earlier.record, seen)
        start.notes += higher(recipe, earlier.history)
    return start


def _go_on(start: Start, folder: Path, allow: Sequence[str]) -> None:
    """Go on with the run in a folder, which is claimed before it is read: nobody else may meanwhile."""

    def claimed() -> Resumed:
        if folder.is_dir():
            start.claims.enter_context(locked(folder))
        return resumed(folder, start.contract, start.model, start.recipe, allow)

    try:
        resuming = start.team.led(claimed)
    except BaseException:
        start.claims.close()
        raise
    # What is asked now is the run's from here on, where it may differ or nothing else is known.
    run, earlier = start.run, resuming.run
    asked = run.record if resuming.changed or not earlier.record.get("recipe") else {}
    run.folder, run.history, run.record = earlier.folder, earlier.history, {**earlier.record, **asked}
    run.folder = run.folder if start.team.leads else None
    run.settle()
    start.notes += [*behind(earlier.record), *resuming.notes]
    start.held, start.changed, start.moved = resuming.held, resuming.changed, resuming.moved


def _scaled(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    run: Run,
    *,
    engine: Engine,
    speed: Speed,
    session: Session,
) -> tuple[Recipe, Sequence[str]]:
    """The recipe as long as the session asks for, and what is to be said of it; the run's record tells it."""
    scaled = session.scaled or recipe.scaled
    if session.within is None:
        return recipe, ()
    if session.resume is not None:
        return scaled(planned_before(session.resume, session.within)), ()
    checked(model, data, recipe)
    check_views(data, recipe, engine.device)
    trial(model, data, recipe, engine)
    plan = plan_within(model, data, scaled, session.within, begun=session.begun, engine=engine, speed=speed)
    run.record |= {"scale": plan.scale, "within": plan.record}
    return scaled(plan.scale), plan.lines


def _allowed(session: Session) -> tuple[str, ...]:
    """What may change in a run that goes on. Raises ValueError for what cannot be asked at once."""
    allow = (session.allow,) if isinstance(session.allow, str) else tuple(session.allow)
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
    return allow


def _lead(run: Run, team: Team) -> None:
    """Leave the folder to the process that leads; one that another had made for itself goes."""
    if team.alone:
        return
    theirs = team.led(lambda: run.folder)
    if not team.leads and run.folder is not None:
        if run.folder != theirs:
            with suppress(OSError):
                run.folder.rmdir()
        run.folder = None


def card_of(training: Training, phase: Phase) -> Card:
    """The card of a training's model after a phase."""
    return card_after(training.model, training.data, phase)


def card_after(model: nn.Module, data: Data, phase: Phase) -> Card:
    """The card of a model after a phase on these data."""
    resize, crop = phase.test.at(phase.last_resolution)
    _, channels, height, width = data.train.shape
    looks: dict[str, Any] = {"mirror": phase.test.mirror, "shift": phase.test.shift}
    sizes: dict[str, Any] = {"resize": resize, "crop": crop, "channels": channels, "stored": (height, width)}
    return described(model, classes=data.classes, shape=data.shape, **sizes, **looks)
