"""Taker: one worker of a search, which takes trial after trial, trains each, and tells the study of it."""

import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from budgetnet.compare import Figure, differences, measured
from budgetnet.files import is_locked
from budgetnet.identity import without_rooms
from budgetnet.plan import Plan
from budgetnet.run import Run
from budgetnet.schedule import rises
from budgetnet.sweep.capacity import threads_of
from budgetnet.sweep.costs import costs_of, excess
from budgetnet.sweep.effort import BY_EPOCH, Rung
from budgetnet.sweep.folder import TRIAL, described
from budgetnet.sweep.front import draw
from budgetnet.sweep.grid import Setting
from budgetnet.sweep.job import FAILURE, MISTAKE, Job
from budgetnet.sweep.over import blind, notes, tested
from budgetnet.sweep.repeat import ended, goes_on, train
from budgetnet.sweep.study import COSTS, WHY, Entry, Study, Taken, waiting
from budgetnet.sweep.task import Task
from budgetnet.sweep.trials import Sweep, Trial

PART = "search"
"""The entry of a run's record that says of which trial, and which of its stages, it is."""
_REFUSED, _MISTAKES = 1000, 10
"""Suggestions in a row that may be refused, by their model and by what else trains them."""
_POLL = 1.0
"""Seconds between two looks for something left to do, while others train."""


class Taker:
    """One process that takes trials of a search until none is left."""

    def __init__(self, task: Task, folder: Path, tell: Callable[[str], None]) -> None:
        self.task, self.folder, self._say = task, folder, tell
        self.study = Study(
            folder,
            folder.name,
            task.effort.storage,
            task.domains,
            seed=task.plan.recipe.seed,
            rises=[rises(task.metric), *(False for _ in task.against)],
            prune=task.prune,
            epochs=sum(phase.epochs for phase in task.plan.recipe.phases),
        )
        known = self.study.begun_as(task.origin)
        changed = differences(without_rooms([known, task.origin]))
        if changed:
            raise ValueError(
                f"the search in {folder} was begun as something else: {changed[0]}; go on with what it was, "
                "or choose another name (--name)"
            )
        self.done: dict[Path, Run] = {}
        self.refused = self.mistakes = 0

    def trials(self, until: float | None, *, most: int | None = None) -> bool:
        """Take trials until none is left, at most so many, or the time is over; whether more may be left."""
        count = 0
        # However short the time, a step of one trial is done.
        while not self._over(until) or (most is None and count == 0):
            if count == most:
                return True
            taken = self.study.take(self.task.trials, self._good)
            if taken is not None:
                count += 1
                self._train(taken, until)
                self._result().save()
            elif any(entry.state == "running" for entry in self.study.entries()):
                # A worker that is killed leaves something to do.
                time.sleep(_POLL)
                count = count or (1 if self._over(until) else 0)
            else:
                break
        return False

    def result(self, until: float | None) -> Sweep:
        """The search, with the winner measured where nothing is left and there is one."""
        if self._over(until):
            self.study.release_abandoned()
        with waiting(self.folder):
            # Of several that end at once, the first one measures.
            result = self._result(over=True)
            if result.selected is not None:
                plan = self._plan(result.selected)
                result = tested(self.task.trainer, result, plan, self.task.data(plan))
            drawn = draw(result)
            result = replace(result, notes=(*notes(result), *([drawn] if drawn else [])))
            result.save()
        return result

    def _over(self, until: float | None) -> bool:
        return until is not None and time.monotonic() >= until

    def _plan(self, trial: Trial) -> Plan:
        """The plan of a trial."""
        return blind(self.task.setting(trial.settings).applied(self.task.plan))

    def _good(self, setting: Setting) -> tuple[float, str, Mapping[str, float]]:
        """How far a suggestion is over the budget, its refusal in words, "" for a good one, and its costs."""
        try:
            plan = blind(setting.applied(self.task.plan))
            costs = costs_of(plan, self.task.against)
            self.refused = 0
            return 0.0, "", costs
        except ValueError as error:
            self.refused += 1
            if self.refused >= _REFUSED:
                raise ValueError(
                    f"{self.refused} suggestions in a row were refused, the last ({setting}): {error}; "
                    "search nearer to what the budget allows (--search)"
                ) from error
            why = " ".join(str(error).split())
            self._say(f"refused: {setting}: {why}")
            return excess(error), why, {}

    def _train(self, taken: Taken, until: float | None) -> None:
        """Train a trial to its end, or until it is to go on later."""
        again = ", goes on" if taken.again else ""
        self._say(f"trial {taken.number}{again}: {taken.setting}")
        try:
            told = self._trained(taken, until)
        except BaseException:
            self.study.release(taken)
            raise
        self._say(f"trial {taken.number}: {told}")

    def _trained(self, taken: Taken, until: float | None) -> str:
        runs: list[Run] = []
        for at, rung in enumerate(self.task.rungs):
            last = at + 1 == len(self.task.rungs)
            if not last and rung.step in self.study.reported(taken):
                if self.study.hopeless(taken, math.nan, rung.step):
                    self.study.cut(taken)
                    return f"pruned at {rung}"
                continue
            runs = []
            for seed in self.task.seeds if last else self.task.seeds[:1]:
                run = self._run(taken, rung, seed, until, heed=last and seed == self.task.seeds[0])
                if not ended(run):
                    self.study.release(taken)
                    return "is to go on later"
                if run.status == "failed":
                    return self._failed(taken, run)
                if run.status == "pruned":
                    self.study.cut(taken)
                    return "pruned"
                self.mistakes = 0
                runs.append(run)
            figure = Figure(tuple(measured(run, self.task.metric) for run in runs)).mean
            if not math.isfinite(figure):
                self.study.fail(taken, why := f"its {self.task.metric} is no number")
                return f"failed: {why}"
            if not last and self.study.hopeless(taken, figure, rung.step):
                self.study.cut(taken)
                return f"pruned at {rung}"
        costs = taken.trial.user_attrs.get(COSTS, {})
        self.study.complete(taken, [figure, *(costs[cost] for cost in self.task.against)])
        return f"{self.task.metric} {figure:.4f}"

    def _failed(self, taken: Taken, run: Run) -> str:
        why = " ".join(str(run.record.get("error", "")).split())
        if run.record.get(FAILURE) == MISTAKE:
            self.study.refuse(taken, 1.0, why)
            self.mistakes += 1
            if self.mistakes >= _MISTAKES:
                raise ValueError(f"{self.mistakes} suggestions in a row were refused, the last: {why}")
            return f"refused: {why}"
        self.study.fail(taken, why)
        return f"failed: {why}"

    def _run(self, taken: Taken, rung: Rung, seed: int, until: float | None, *, heed: bool) -> Run:
        """One run of a trial; it goes on where it was interrupted, and is read where it is over."""
        earlier = _earlier(self.folder, taken.number, rung, seed)
        if earlier is not None and ended(earlier):
            return earlier
        task = self.task
        asked = [*task.record.get("settings", []), *(f"{p}={t}" for p, t in taken.setting.texts.items())]
        scale = task.record.get("scale")
        record = {
            **task.record,
            "settings": asked,
            "scale": scale if rung.scale == 1 else (scale or 1.0) * rung.scale,
            TRIAL: taken.setting.texts,
            PART: {"trial": taken.number, "rung": rung.step},
        }
        plan = blind(taken.setting.applied(task.plan)).changed(f"recipe.seed={seed}")
        job = Job(
            f"trial {taken.number}, {rung}, seed {seed}",
            plan if rung.scale == 1 else plan.scaled(rung.scale),
            self.folder,
            f"trial-{taken.number}",
            record,
            earlier.folder if earlier is not None else None,
            tested=False,
        )
        left = None if until is None else max(1e-3, until - time.monotonic())
        each = partial(self._heed, taken) if heed and task.prune in BY_EPOCH else None
        # The bits depend on the threads: those that it began with.
        threads = earlier.record.get("threads") if earlier is not None else None
        with threads_of(threads if isinstance(threads, int) and threads > 0 else torch.get_num_threads()):
            run = train(task.trainer, job, task.data, left, each)
        # The models of all trials together may not fit into memory.
        run.model = None
        return run

    def _heed(self, taken: Taken, run: Run) -> None:
        """End a run after an epoch where the trial promises too little."""
        epoch = run.history[-1]
        figure = epoch.measure(self.task.metric)
        if not math.isfinite(figure):
            return
        hopeless = self.study.hopeless(taken, figure, epoch.number)
        # After the last epoch there is nothing to be spared.
        if hopeless and epoch.number < run.record.get("planned", math.inf):
            run.end("pruned")

    def _result(self, *, over: bool = False) -> Sweep:
        """The search so far, or where it is over."""
        entries = self.study.entries()
        trials = tuple(self._trial(entry) for entry in entries if not entry.refused)
        result = Sweep(self.folder, self.task.metric, trials, described(self.task.plan))
        refused = tuple(
            (e.number, dict(e.settings), str(e.attributes.get(WHY))) for e in entries if e.refused
        )
        return replace(result, against=self.task.against, refused=refused, over=over, searched=True)

    def _trial(self, entry: Entry) -> Trial:
        last = self.task.rungs[-1]
        paths = self.folder.glob(f"trial-{entry.number}-*")
        runs = [run for path in sorted(paths) if (run := self._read(path)) is not None]
        own = [run for run in runs if run.record.get(PART, {}).get("rung") == last.step] or runs[-1:]
        best = {run.record.get("seed"): run for run in own}
        words = {"complete": "", "running": "unfinished", "waiting": "left", "fail": "failed"}
        return Trial(
            entry.number,
            entry.settings,
            tuple(best[seed] for seed in sorted(best, key=str)),
            self.task.effort.seeds,
            words.get(entry.state, entry.state),
            str(entry.attributes.get(WHY) or ""),
            entry.attributes.get(COSTS) or {},
        )

    def _read(self, path: Path) -> Run | None:
        """The run in a folder, read once when it is over."""
        if path in self.done:
            return self.done[path]
        with suppress(ValueError):
            run = Run.read(path)
            if run.over and "test_accuracy" in run.result:
                self.done[path] = run
            return run
        return None


def _earlier(folder: Path, number: int, rung: Rung, seed: int) -> Run | None:
    """The newest run of a trial's stage and seed that is over, failed, or can go on; None for a new one."""
    best: Run | None = None
    for path in folder.glob(f"trial-{number}-*"):
        with suppress(ValueError):
            run = Run.read(path)
            own = {"trial": number, "rung": rung.step}
            same = run.record.get(PART) == own and run.record.get("seed") == seed
            fit = ended(run) or goes_on(run)
            if same and fit and (best is None or run.started >= best.started):
                best = run
            if same and not fit and not is_locked(path):
                # Nothing is in it to go on from: it is begun anew.
                shutil.rmtree(path, ignore_errors=True)
    return best
