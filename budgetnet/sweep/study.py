"""Study: Optuna's part of a search: what it suggests, what came of it, and which worker has which trial."""

import logging
import platform
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import optuna
from optuna.trial import TrialState

from budgetnet.files import is_locked, locked
from budgetnet.randomness import mixed
from budgetnet.sweep.effort import FACTOR, HALVING, HYPERBAND, MEDIAN
from budgetnet.sweep.folder import TAKING
from budgetnet.sweep.grid import Setting, written
from budgetnet.sweep.space import Between, Domain

DATABASE = "study.db"
BEAT, GRACE = 30, 180
"""Seconds between two signs of life of a trial, and without one after which its machine counts as gone."""
_BETWEEN = 0.1
"""Seconds between two looks at what another worker has."""

ORIGIN, SETTINGS, HOST, ENDING, WHY, COSTS = "origin", "settings", "host", "ending", "why", "costs"
"""What the storage is told of a study, and of its trials, besides what Optuna keeps itself."""
REFUSED = "refused"


Judge: TypeAlias = Callable[[Setting], tuple[float, str, Mapping[str, float]]]
"""What says of a setting how far it is over the budget, why it is refused, if so, and what it costs."""


@dataclass
class Taken:
    """A trial that this process has: its number from 1, its setting, and what holds it."""

    trial: Any
    number: int
    setting: Setting
    holds: ExitStack
    again: bool = False


@dataclass(frozen=True)
class Entry:
    """A trial as the storage has it: its state, "running", "waiting", "complete", "pruned" or "fail"."""

    number: int
    state: str
    settings: Mapping[str, str]
    values: tuple[float, ...]
    attributes: Mapping[str, Any]

    @property
    def refused(self) -> bool:
        """Whether it was a suggestion that cannot be trained."""
        return self.attributes.get(ENDING) == REFUSED


@dataclass
class Study:
    """A study of this `name` in a storage, whose trials' locks lie in `folder`.

    A suggestion is a function of the seed, the trial's number and what is known by then, so that one worker
    alone suggests the same however often it is stopped. `rises` says of each objective whether more is
    better, and `prune` how trials of so many `epochs` are ended early.
    """

    folder: Path
    name: str
    storage: str | None
    domains: Mapping[str, Domain]
    seed: int
    rises: Sequence[bool]
    prune: str
    epochs: int
    _storage: Any = field(init=False)
    _study: Any = field(init=False)

    def __post_init__(self) -> None:
        with _quiet(), self.alone():
            self._storage = _opened(self.storage or f"sqlite:///{(self.folder / DATABASE).absolute()}")
            self._study = optuna.create_study(
                study_name=self.name,
                storage=self._storage,
                directions=["maximize" if rises else "minimize" for rises in self.rises],
                pruner=_pruner(self.prune, self.epochs),
                load_if_exists=True,
            )

    def begun_as(self, origin: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the study was begun as; `origin` where this begins it."""
        with self.alone():
            known: Mapping[str, Any] = self._study.user_attrs.get(ORIGIN) or {}
            if not known:
                self._study.set_user_attr(ORIGIN, dict(origin))
        return known or origin

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within it no other worker looks for a trial: who has which is decided one by one."""
        with waiting(self.folder / TAKING):
            yield

    def entries(self) -> list[Entry]:
        """All trials, by their numbers."""
        with _quiet():
            trials = self._study.get_trials(deepcopy=False)
        return [
            Entry(
                trial.number + 1,
                trial.state.name.lower(),
                trial.user_attrs.get(SETTINGS, {}),
                tuple(trial.values or ()),
                trial.user_attrs,
            )
            for trial in trials
        ]

    def take(
        self, most: int, good: Callable[[Setting], tuple[float, str, Mapping[str, float]]]
    ) -> Taken | None:
        """A trial that nobody has: one whose worker is gone, or a new one while there are fewer than `most`.

        `good` builds what is suggested: how far it is over the budget, the refusal in words, and its costs.
        What is over it is refused, does not count, and another one is suggested. None where nothing is left.
        """
        with self.alone(), _quiet():
            while True:
                taken = self._abandoned() or self._waiting_one()
                if taken is None and sum(not entry.refused for entry in self.entries()) < most:
                    taken = self._suggested()
                if taken is None or COSTS in taken.trial.user_attrs:
                    return taken
                with ExitStack() as holds:
                    holds.push(taken.holds)
                    over, why, costs = good(taken.setting)
                    if not why:
                        taken.trial.set_user_attr(COSTS, dict(costs))
                        holds.pop_all()
                        return taken
                    self.refuse(taken, over, why)

    def release(self, taken: Taken) -> None:
        """Give a trial back that is to go on later, here or elsewhere."""
        with _quiet(), taken.holds:
            if self._storage.get_trial(taken.trial._trial_id).state == TrialState.RUNNING:
                self._storage.set_trial_state_values(taken.trial._trial_id, TrialState.WAITING)

    def release_abandoned(self) -> None:
        """Give back what workers that are gone have left."""
        with self.alone(), _quiet():
            while (taken := self._abandoned()) is not None:
                self.release(taken)

    def refuse(self, taken: Taken, over: float, why: str) -> None:
        """End a trial that cannot be trained: infeasible to the sampler, by so much, and no try."""
        with _quiet():
            taken.trial.set_constraint("budget", max(over, 1e-9))
            taken.trial.set_user_attr(ENDING, REFUSED)
            taken.trial.set_user_attr(WHY, why)
        self.end(taken, TrialState.PRUNED)

    def cut(self, taken: Taken) -> None:
        """End a trial that promises too little."""
        self.end(taken, TrialState.PRUNED)

    def fail(self, taken: Taken, why: str) -> None:
        """End a trial whose training failed."""
        with _quiet():
            taken.trial.set_user_attr(WHY, why)
        self.end(taken, TrialState.FAIL)

    def complete(self, taken: Taken, values: Sequence[float]) -> None:
        """End a trial with its objectives' values."""
        self.end(taken, TrialState.COMPLETE, values)

    def end(self, taken: Taken, state: Any, values: Sequence[float] | None = None) -> None:
        """End a trial, and let it go."""
        with _quiet(), taken.holds:
            self._study.tell(taken.trial, values, state)
        with suppress(OSError):
            self._lock(taken.number).rmdir()

    def hopeless(self, taken: Taken, figure: float, step: int) -> bool:
        """Report a figure of a trial at a step; whether the trial promises too little to go on."""
        with _quiet():
            # What a killed worker had reported already is the same.
            if step not in self.reported(taken):
                taken.trial.report(figure, step)
            return bool(taken.trial.should_prune())

    def reported(self, taken: Taken) -> set[int]:
        """The steps of which a figure was reported."""
        frozen = self._storage.get_trial(taken.trial._trial_id)
        return set(frozen.intermediate_values)

    def _abandoned(self) -> Taken | None:
        """A running trial whose worker is gone: its lock is free, and it ran here or shows no life."""
        here, stale = platform.node(), None
        for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if is_locked(self._lock(frozen.number + 1)):
                continue
            if frozen.user_attrs.get(HOST, here) != here:
                stale = self._storage._get_stale_trial_ids(self._study._study_id) if stale is None else stale
                if frozen._trial_id not in stale:
                    continue
            # Another one may have taken it, or ended it, since.
            with suppress(ValueError):
                return self._held(optuna.trial.Trial(self._study, frozen._trial_id), again=True)
        return None

    def _waiting_one(self) -> Taken | None:
        """A trial that was given back."""
        with suppress(ValueError):
            if self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                return self._held(self._study.ask(), again=True)
        return None

    def _suggested(self) -> Taken:
        return self._held(self._study.ask())

    def _held(self, trial: Any, *, again: bool = False) -> Taken:
        """The trial with its lock, and signs of life. Raises ValueError where another one has or ended it."""
        number, storage = trial.number + 1, self._storage
        place = self._lock(number)
        place.mkdir(parents=True, exist_ok=True)
        with ExitStack() as holds:
            holds.enter_context(locked(place))
            if storage.get_trial(trial._trial_id).state != TrialState.RUNNING:
                raise ValueError(f"trial {number} has ended")
            holds.enter_context(_alive(storage, trial._trial_id))
            trial.set_user_attr(HOST, platform.node())
            # What was suggested before stays; what is suggested now depends on the trial's number alone.
            self._study.sampler = optuna.samplers.TPESampler(seed=mixed(self.seed, number))
            setting = Setting({path: _suggest(trial, path, domain) for path, domain in self.domains.items()})
            trial.set_user_attr(SETTINGS, setting.texts)
            return Taken(trial, number, setting, holds.pop_all(), again)

    def _lock(self, number: int) -> Path:
        return self.folder / ".taken" / str(number)


def _suggest(trial: Any, path: str, domain: Domain) -> Any:
    """A value of a domain for a trial, which has it from then on."""
    if not isinstance(domain, Between):
        texts = [written(value) for value in domain]
        return domain[texts.index(trial.suggest_categorical(path, texts))]
    if domain.whole:
        return trial.suggest_int(path, domain.low, domain.high, log=domain.log, step=domain.step or 1)
    return domain.value(trial.suggest_float(path, domain.low, domain.high, log=domain.log, step=domain.step))


def _pruner(prune: str, epochs: int) -> Any:
    """Optuna's pruner of the name."""
    if prune == MEDIAN:
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 10))
    if prune == HYPERBAND:
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=FACTOR)
    if prune == HALVING:
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=FACTOR)
    return optuna.pruners.NopPruner()


def _opened(url: str) -> Any:
    """The storage at a URL. Raises ValueError, without its password, where it cannot be opened."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        shown = make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        raise ValueError(
            "a search's storage should be a URL such as postgresql://user@host/name, and cannot be read"
        ) from None
    # Workers wait for one another's writes.
    options = {"connect_args": {"timeout": 120}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        return optuna.storages.RDBStorage(
            url, engine_kwargs=options, heartbeat_interval=BEAT, grace_period=GRACE
        )
    except (SQLAlchemyError, ImportError) as error:
        why = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise ValueError(f"the storage {shown} cannot be opened: {why}") from None


@contextmanager
def _alive(storage: Any, trial: int) -> Iterator[None]:
    """Within it the storage hears that the trial's worker lives."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            # A storage that is away for a while is no reason to end a training.
            with suppress(Exception), _quiet():
                storage.record_heartbeat(trial)

    storage.record_heartbeat(trial)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def waiting(place: Path) -> Iterator[None]:
    """Hold the lock of a folder, once whoever has it lets go."""
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as holds:
        while True:
            if not is_locked(place):
                with suppress(ValueError):
                    holds.enter_context(locked(place))
                    break
            time.sleep(_BETWEEN)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it Optuna says nothing of its own."""
    optuna.logging.set_verbosity(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
