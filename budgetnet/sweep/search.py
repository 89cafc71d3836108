"""Search: settings suggested by what the ones before them gave, by one worker or many, each taking trials."""

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from budgetnet.budget import OverBudget
from budgetnet.console import say
from budgetnet.files import unwritable
from budgetnet.identity import without_rooms
from budgetnet.plan import Plan
from budgetnet.process import check_launch
from budgetnet.sweep.capacity import Capacity, capacity, threads_of
from budgetnet.sweep.cluster import Cluster
from budgetnet.sweep.costs import COSTS
from budgetnet.sweep.effort import Effort
from budgetnet.sweep.folder import TAKING, folder_of
from budgetnet.sweep.grid import Setting
from budgetnet.sweep.over import blind, check_metric, validated
from budgetnet.sweep.repeat import recorded
from budgetnet.sweep.shared import shared_size
from budgetnet.sweep.space import Between, space
from budgetnet.sweep.spread import beside, searched
from budgetnet.sweep.task import Task
from budgetnet.sweep.trials import Sweep
from budgetnet.trainer import Trainer, check_out
from budgetnet.values import one_of, whole

_PLAIN = Effort()


def search(
    trainer: Trainer,
    plan: Plan,
    over: Mapping[str, Between | Iterable[Any] | str],
    *,
    trials: int = 100,
    metric: str = "val_accuracy",
    against: Sequence[str] = (),
    effort: Effort = _PLAIN,
    name: str | None = None,
    record: Mapping[str, Any] | None = None,
) -> Sweep:
    """Train a plan with settings that are suggested by what those before them gave, and choose one.

    `over` says from which values each setting is suggested: a `Between`, a list of values, or text as
    `--search` has it. A suggestion over the budget is refused before it is trained, told to the sampler as
    infeasible, and counts as none of the `trials`. All are chosen by `metric` on the validation images and
    never see the test split; with `against` ("params", "macs", "bytes", "latency") the best for each cost are
    found: `front`. In the end the best of all is measured on the test images, with each of its seeds, once.

    The same call, or command, goes on with the same search, whose folder is called by what is asked (or
    `name`): what was interrupted goes on exactly. Started several times at once, with one storage, each takes
    trials, and goes on with those of a worker that was killed. `effort` says how many seeds each trial has,
    how trials are ended early, how long all may take, and where the study lies. Needs optuna (the extra
    "search"). Raises ValueError for what cannot be searched.

        result = search(Trainer(), read_plan("mine.py"), {"model.width": "8..64:8"}, trials=30)
        print(result)
    """
    check_launch()
    whole("a search's trials", trials)
    if importlib.util.find_spec("optuna") is None:
        raise ValueError("a search needs optuna, which is not installed: pip install 'budgetnet[search]'")
    check_metric(metric, plan)
    for cost in against:
        one_of("what a search's metric is set against", cost, COSTS)
    domains, until = space(over), effort.until()
    for path, domain in domains.items():
        # A path that is none is refused before anything is made.
        first = domain.low if isinstance(domain, Between) else domain[0]
        Setting({path: domain.value(first) if isinstance(domain, Between) else first}).applied(plan)
    task = Task(trainer, plan, domains, trials, metric, tuple(against), effort, record or recorded(plan))
    validated(task.data(blind(plan)))
    folder = _made(task, name)
    from budgetnet.sweep.taker import Taker

    taker = Taker(task, folder, say if trainer.show else lambda text: None)
    many = _many(task)
    try:
        if many.on is not None:
            searched(many.on, task, folder, until)
        else:
            with beside(task, folder, many.count - 1, many.threads, until), threads_of(many.threads):
                taker.trials(until)
        return taker.result(until)
    except (KeyboardInterrupt, SystemExit):
        if trainer.show:
            say(f"stopped: what is there lies in {folder}, and the same command goes on")
        raise


def _many(task: Task) -> Capacity:
    """How many workers there are here, this process among them."""
    together, trainer = task.effort.together, task.trainer
    if isinstance(together, Cluster) and together.address != "ray" and task.effort.storage is None:
        raise ValueError(
            "the tasks of a cluster share a database, which a file in a folder is not: name one, storage="
            "'postgresql://user@host/name' (--storage)"
        )
    if trainer.watch and together == "auto":
        together = 1
    if trainer.watch and together != 1:
        raise ValueError(
            "watchers are functions of this process, and workers have their own: give together=1"
        )
    try:
        images = shared_size(task.data(task.plan)) if together == "auto" else 0
        return capacity(together, trainer, [task.plan], task.trials, images)
    except OverBudget:
        # What the recipe's own model needs nobody knows.
        return capacity(1, trainer, [], 1, 0)


def _made(task: Task, name: str | None) -> Path:
    """The search's folder: the same for all who ask for the same. Raises ValueError where it cannot be."""
    text = json.dumps(without_rooms([task.origin])[0], sort_keys=True)
    own = f"{task.plan.name}-search-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    folder = folder_of(task.trainer, task.plan, name or own)
    if folder.exists() and any(folder.iterdir()) and not (folder / TAKING).is_dir():
        raise ValueError(f"{folder} is there already and holds no search; choose another name (--name)")
    if not folder.exists():
        # What is searched may make a plan good that is over the budget.
        with suppress(OverBudget):
            model, recipe = task.plan.model(), task.plan.recipe
            for note in check_out(task.trainer.out, (folder.name, "trial"), model, recipe):
                if task.trainer.show:
                    say(f"note: {note}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder.parent, error) from None
    return folder
