"""Measures a training's own steps: bare by its clock, and once more under torch's profiler."""

import copy
import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as profiler

from budgetnet.data import Data
from budgetnet.engine import PARTS, Scoring, Training, evaluate, steps
from budgetnet.process import peak_memory
from budgetnet.profiling.arithmetic import counted_steps, matmul_peaks, now
from budgetnet.profiling.scopes import EVALUATION, PART, Scopes, modules, modules_named, operators
from budgetnet.profiling.values import Part, PhaseProfile, Profile, advise
from budgetnet.recipe import Phase, Recipe
from budgetnet.trainer import Trainer
from budgetnet.values import whole

WARM = 3
"""Steps before anything is timed, and after the number of threads has changed."""


def profile(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    steps: int = 10,
    trainer: Trainer | None = None,
    threads: Sequence[int] = (),
    trace: str | Path | None = None,
) -> Profile:
    """Say where the time of training `model` on `data` by `recipe` goes, phase by phase.

    Each phase takes a few steps to warm up, `steps` steps that are timed, and `steps` more under torch's
    profiler, then evaluates a batch: by the very code that `Trainer.fit` uses, at the phase's last resolution
    and its batch size. A copy of the model is trained; nothing is written but the Chrome trace to the file
    `trace`, where one is asked for. With `threads`, steps are also timed with each of these numbers of
    threads. Raises ValueError for what `fit` would refuse.

    ::

        print(profile(model, data, recipe, steps=20))
    """
    whole("profile's steps", steps)
    for n in threads:
        whole("each of profile's threads", n)
    paths = traces(trace, len(recipe.phases)) if trace is not None else []
    trainer = trainer or Trainer(show=False)
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
    training = trainer.ready(copy.deepcopy(model), data, recipe)
    activities = [ProfilerActivity.CPU]
    if trainer.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    sessions = []
    for number in range(len(recipe.phases)):
        session = _Session(training, recipe, number, steps, tuple(threads), activities)
        session.run()
        sessions.append(session)
        if paths:
            session.profiler.export_chrome_trace(str(paths[number]))
    phases = tuple(session.figures() for session in sessions)
    precision = str(trainer.engine.autocast or torch.float32).removeprefix("torch.")
    return Profile(
        phases,
        str(trainer.device),
        torch.get_num_threads(),
        precision,
        _peak(trainer.device),
        sum(session.watched for session in sessions) / sum(session.bare for session in sessions),
        advise(phases, data, trainer.device),
        matmul_peaks(trainer.device),
    )


@dataclass
class _Session:
    """The steps of one phase, and what was measured of them; times in seconds for all `steps` steps."""

    whole: Training
    recipe: Recipe
    number: int
    steps: int
    threads: tuple[int, ...]
    activities: list[ProfilerActivity]
    bare: float = 0.0
    watched: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    by_threads: dict[int, float] = field(default_factory=dict)
    evaluation: float = 0.0
    evaluated: int = 0
    macs: int | None = None
    profiler: Any = None

    @property
    def phase(self) -> Phase:
        return self.recipe.phases[self.number]

    def run(self) -> None:
        """Take all steps, and evaluate a batch."""
        training = self._training()
        script = self._script(training)

        with closing(script), closing(steps(training)) as taken:
            for _ in taken:
                # What the script does lies between two steps; it ends the loop with its own end.
                if next(script, "over") == "over":
                    break

    def _training(self) -> Training:
        """A training of this phase alone, whose one epoch is long enough for all steps."""
        count = WARM + 2 * self.steps + len(self.threads) * (WARM + self.steps) + 2
        return self.whole.alone(self.number + 1, count, resolution=self.phase.last_resolution)

    def _script(self, training: Training) -> Generator[None]:
        """What happens between the steps; each yield is a step."""
        device = training.engine.device
        self.macs = yield from counted_steps(WARM - 1, eager=training.execution.compiled is None)
        before = torch.get_num_threads()
        try:
            for count in self.threads:
                torch.set_num_threads(count)
                yield from (None for _ in range(WARM))
                begun = now(device)
                yield from (None for _ in range(self.steps))
                self.by_threads[count] = (now(device) - begun) / self.steps
        finally:
            torch.set_num_threads(before)
        yield
        training.state.clock.clear()
        begun = now(device)
        yield from (None for _ in range(self.steps))
        self.bare = now(device) - begun
        self.parts = {part: training.state.clock.of(self.steps, part) for part in PARTS}
        self._evaluate(training, warm=True)
        self._evaluate(training)
        with profiler(activities=self.activities) as self.profiler:
            with modules_named(training.model):
                training.state.clock.told = Scopes().part
                begun = now(device)
                yield from (None for _ in range(self.steps))
                self.watched = now(device) - begun
                training.state.clock.told = None
            with record_function(f"{PART}{EVALUATION}"):
                self._evaluate(training, warm=True)

    def _evaluate(self, training: Training, *, warm: bool = False) -> None:
        """Time an evaluation batch, as after an epoch; the model goes on as it was."""
        split = training.data.val if training.data.val is not None else training.data.train
        if not self.recipe.measure:
            return
        size = min(len(split), self.phase.batch_size or self.recipe.batch_size)
        batch = split.subset(torch.arange(size))
        begun = now(training.engine.device)
        evaluate(
            training.measured,
            batch,
            Scoring(training.data.classes),
            self.phase.test,
            engine=training.engine,
            resolution=self.phase.last_resolution,
            batch_size=size,
        )
        if not warm:
            self.evaluation, self.evaluated = now(training.engine.device) - begun, size

    def figures(self) -> PhaseProfile:
        """The phase's figures, a step."""
        phase, data = self.phase, self.whole.data
        epoch_steps, size = phase.steps(len(data.train), self.recipe.batch_size)
        spent = {name: seconds for name, seconds in self.parts.items() if seconds}
        spent["rest"] = max(0.0, self.bare - sum(spent.values()))
        parts = (Part(name, seconds / self.steps, seconds / self.bare) for name, seconds in spent.items())
        events = self.profiler.events()
        measured = [data.splits[name] for name in self.recipe.measure if name in data.splits]
        return PhaseProfile(
            name=phase.name or f"phase {self.number + 1}",
            resolution=phase.last_resolution,
            batch_size=size,
            steps=self.steps,
            seconds=self.bare / self.steps,
            parts=tuple(parts),
            operators=operators(events, self.steps),
            modules=modules(events, self.steps),
            evaluation=self.evaluation if self.evaluated else math.nan,
            evaluated=self.evaluated,
            epochs=phase.epochs,
            epoch_steps=epoch_steps,
            images=sum(len(split) for split in measured) * phase.test.views,
            threads=self.by_threads,
            macs=self.macs,
        )


def traces(path: str | Path, phases: int) -> list[Path]:
    """The files that the traces of so many phases go to: `path`, or NAME-1, NAME-2 and so on beside it.

    Raises ValueError where they cannot be written.
    """
    whole = Path(path)
    if not whole.parent.is_dir() or whole.is_dir():
        problem = "is a folder" if whole.is_dir() else f"would lie in {whole.parent}, which is no folder"
        raise ValueError(f"the trace should be a file such as trace.json, and {whole} {problem}")
    if phases == 1:
        return [whole]
    return [whole.with_name(f"{whole.stem}-{number}{whole.suffix}") for number in range(1, phases + 1)]


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory()
