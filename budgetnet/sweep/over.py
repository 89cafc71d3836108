"""Over: a grid of settings trained on one split, chosen on another, and measured once on a third."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from budgetnet.console import say
from budgetnet.data import Data
from budgetnet.identity import told
from budgetnet.metrics import Answers, metric_name
from budgetnet.modelfile import load, read_card
from budgetnet.plan import Plan
from budgetnet.process import check_launch
from budgetnet.run import MODEL, Run
from budgetnet.sweep.capacity import Capacity, Together, capacity
from budgetnet.sweep.folder import (
    TRIAL,
    described,
    earlier,
    finished,
    folder_of,
    interrupted,
    key_of,
    made,
)
from budgetnet.sweep.grid import Setting, grid
from budgetnet.sweep.job import Job
from budgetnet.sweep.repeat import ended, recorded, worked
from budgetnet.sweep.shared import shared_size
from budgetnet.sweep.trials import METRICS, Sweep, Trial
from budgetnet.trainer import Trainer, check_out
from budgetnet.values import finite, one_of, whole


def sweep(
    trainer: Trainer,
    plan: Plan,
    over: Mapping[str, Iterable[Any]],
    *,
    seeds: int = 1,
    metric: str = "val_accuracy",
    name: str | None = None,
    resume: bool = False,
    together: Together = 1,
    record: Mapping[str, Any] | None = None,
) -> Sweep:
    """Train a plan with every combination of the values of `over`, and choose one on the validation images.

    The trials never see the test split. In the end the model of the chosen setting (of each of its `seeds`)
    is measured on it, once. All combinations are checked before the first one is trained. The runs, with
    sweep.json and sweep.csv, lie in the folder `name` in the trainer's `out`, by default a new numbered one;
    with `resume` the finished runs in it (without a name: in the latest) are not trained again, and those
    that were interrupted go on exactly. `together` runs, or "auto", are trained at once, as for `seeds`. A
    trial whose training fails is ranked last. Raises ValueError for an impossible combination, data without
    validation images, and a folder in use.

        result = sweep(Trainer(), read_plan("mine.py"), over={"recipe.phases.0.lr": [0.01, 0.03, 0.1]})
        print(result)
    """
    check_launch()
    whole("seeds", seeds)
    check_metric(metric, plan)
    settings = grid(over)
    plans = [blind(setting.applied(plan)) for setting in settings]
    folder, numbered = folder_of(trainer, plan, name), name is None
    before = earlier(folder, numbered=numbered, resume=resume)
    origin = described(plan)
    asked = range(plan.recipe.seed, plan.recipe.seed + seeds)
    known = finished(before, origin) if before is not None else {}
    done = {(key, seed): run for (key, seed), run in known.items() if seed in asked}
    record = dict(record) if record is not None else recorded(plan)
    search = _Search(trainer, settings, plans, asked, record, done)
    runs = len(plans) * seeds - len(done)
    for note in check_out(trainer.out, (folder.name, "trial"), plans[0].model(), plans[0].recipe, runs=runs):
        if trainer.show:
            say(f"note: {note}")
    search.check()
    images = shared_size(search.data(plans[0]))
    many = capacity(together, trainer, plans, seeds * len(plans), images)
    if resume and before is None and trainer.show:
        say(f"no sweep lies in {folder}{'-N' if numbered else ''}: a new one begins")
    folder = before or made(folder, numbered=numbered)
    if many.apart and trainer.show:
        for number, setting in enumerate(settings, start=1):
            say(f"trial {number} of {len(settings)}: {setting}")
    try:
        result = search.run(Sweep(folder, metric, (), origin), many)
    except (KeyboardInterrupt, SystemExit):
        if trainer.show:
            say(f"stopped: what is finished lies in {folder}, and --name {folder.name} --resume goes on")
        raise
    at = result.selected.number - 1 if result.selected is not None else None
    return result if at is None else tested(trainer, result, plans[at], search.data(plans[at]))


class Latest:
    """The data of the latest plan, held until another one's are asked for."""

    def __init__(self) -> None:
        self._held: tuple[str, Data] | None = None

    def __call__(self, plan: Plan) -> Data:
        """The data of a plan, loaded where they are not those of the plan before."""
        key = told(dict(sorted(plan.data_options.items())))
        if self._held is None or self._held[0] != key:
            self._held = None  # first, for its memory
            self._held = (key, plan.data())
        return self._held[1]


def validated(data: Data) -> Data:
    """The data. Raises ValueError where they have no validation images to choose on."""
    if data.val is None or not len(data.val):
        raise ValueError(
            f"a sweep chooses on validation images, and {data.name} has none; hold some out with "
            "held_out= (--set data.held_out=0.1)"
        )
    return data


def check_metric(metric: str, plan: Plan) -> None:
    """Refuse what is no figure of the validation images that a plan's runs have."""
    own = [f"val_{metric_name(each)}" for each in plan.recipe.metrics]
    one_of("a sweep's metric", metric.partition(".")[0], [*METRICS, *own])


@dataclass
class _Search:
    """What the steps of one sweep share: settings, each with its plan, and the runs that are `done` already.

    The data of one plan are held at a time.
    """

    trainer: Trainer
    settings: Sequence[Setting]
    plans: Sequence[Plan]
    seeds: range
    record: Mapping[str, Any]
    done: Mapping[tuple[str, int], Run]
    data: Latest = field(default_factory=Latest)

    def check(self) -> None:
        """Refuse, before anything is trained, what any of the plans would be refused for."""
        for setting, plan in zip(self.settings, self.plans, strict=True):
            data = validated(self.data(plan))
            try:
                self.trainer.check(plan.model(), replace(data, test=None), plan.recipe)
            except ValueError as error:
                raise ValueError(f"the combination {setting} is impossible: {error}") from error

    def jobs(self, folder: Path, *, apart: bool) -> dict[tuple[int, int], Job]:
        """What is not done, by the position of its setting and its seed; what was interrupted goes on."""
        before, jobs = interrupted(folder), {}
        for at, (setting, plan) in enumerate(zip(self.settings, self.plans, strict=True)):
            key = key_of(setting.texts)
            changes = [f"{path}={text}" for path, text in setting.texts.items()]
            asked = [*self.record.get("settings", []), *changes]
            record = {**self.record, "settings": asked, TRIAL: setting.texts}
            for seed in self.seeds:
                if (key, seed) not in self.done:
                    in_full = f"trial {at + 1} of {len(self.settings)}: {setting} (seed {seed})"
                    jobs[at, seed] = Job(
                        f"trial {at + 1}, seed {seed}" if apart else in_full,
                        plan.changed(f"recipe.seed={seed}"),
                        folder,
                        f"trial-{at + 1}",
                        record,
                        before.get((key, seed)),
                        tested=False,
                    )
        return jobs

    def run(self, result: Sweep, many: Capacity) -> Sweep:
        """Train what is not done, and write the sweep's files after each run."""
        jobs = self.jobs(result.folder, apart=many.apart)
        runs: list[dict[int, Run]] = [
            {seed: run for (key, seed), run in self.done.items() if key == key_of(setting.texts)}
            for setting in self.settings
        ]
        result = self._saved(result, runs)
        trials = list(jobs)
        for number, run in worked(self.trainer, list(jobs.values()), many, self.data):
            # The models of all trials together may not fit into memory.
            run.model = None
            at, seed = trials[number]
            runs[at][seed] = run
            result = self._saved(result, runs)
        if all(ended(run) for ended_runs in runs for run in ended_runs.values()):
            result = replace(result, notes=tuple(notes(result)))
            result.save()
        return result

    def _saved(self, result: Sweep, runs: Sequence[Mapping[int, Run]]) -> Sweep:
        """The sweep with the runs so far, by seed, written to its folder."""
        trials = [
            Trial(number, setting.texts, tuple(own[seed] for seed in sorted(own)), len(self.seeds))
            for number, (setting, own) in enumerate(zip(self.settings, runs, strict=True), start=1)
        ]
        result = replace(result, trials=tuple(trials))
        result.save()
        return result


def tested(trainer: Trainer, result: Sweep, plan: Plan, data: Data) -> Sweep:
    """The sweep with the test figures of its selected setting, whose plan this is, where there are any."""
    assert result.selected is not None
    if data.test is None or not len(data.test):
        return result
    for run in result.selected.runs:
        if "test_accuracy" not in run.result:
            _measure(trainer, _load(run, plan), data, run, plan.recipe.metrics)
    result = replace(result, notes=tuple(notes(result)))
    result.save()
    return result


def _measure(trainer: Trainer, model: nn.Module, data: Data, run: Run, metrics: Sequence[Answers]) -> None:
    """Put the model's figures on the test split into its run's record."""
    assert data.test is not None
    evaluation = trainer.evaluate(model, data.test, classes=data.classes, metrics=metrics)
    figures: dict[str, Any] = {
        "accuracy": evaluation.accuracy,
        "top5": evaluation.top5,
        "loss": evaluation.loss,
    }
    figures |= {name: finite(figure) for name, figure in evaluation.metrics.items()}
    figures |= {"images": evaluation.images, "resolution": evaluation.resolution}
    known = run.record["data"]
    prints = {**known["fingerprints"], "test": data.test.fingerprint()}
    images = {**known["images"], "test": len(data.test)}
    run.note(
        result={**run.result, **{f"test_{key}": value for key, value in figures.items()}},
        data={**known, "images": images, "fingerprints": prints},
    )


def _load(run: Run, plan: Plan) -> nn.Module:
    """The run's model; built by the plan's model() where budgetnet cannot build it by itself."""
    assert run.folder is not None
    if read_card(run.folder / MODEL).builder is not None:
        return load(run.folder)
    return load(run.folder, plan.make_model, **plan.model_options)


def blind(plan: Plan) -> Plan:
    """The plan without any look at the test split during training."""
    measure = tuple(split for split in plan.recipe.measure if split != "test")
    return plan.changed(f"recipe.measure={measure!r}")


def notes(result: Sweep) -> Iterator[str]:
    """What makes the figures other than they seem."""
    validated: set[str] = set()
    trained: dict[str, set[str]] = {}
    for trial in result.trials:
        data = str({path: text for path, text in trial.settings.items() if path.startswith("data.")})
        for run in trial.runs:
            # A run that failed before it began has none.
            prints = run.record.get("data", {}).get("fingerprints", {})
            validated |= {prints["val"]} if "val" in prints else set()
            trained.setdefault(data, set()).update({prints["train"]} if "train" in prints else set())
    if len(validated) > 1:
        yield "the trials were validated on different images, so that their figures are not comparable"
    if any(len(prints) > 1 for prints in trained.values()):
        yield "trials with the same data settings were trained on different images: the data were changed"
    used = [trial for trial in result.trials if trial.figure("test_accuracy").n]
    if len(used) > 1:
        yield (
            f"the test images have now been used for {len(used)} settings of this sweep: the figure is no "
            "longer that of images never looked at"
        )
    if any(run.record.get("external") for trial in result.trials for run in trial.runs):
        yield "external weights: these models were not trained from scratch"
