"""What a profile says: parts, operators and modules of each phase as values, text and JSON, and advice."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from budgetnet.data import Data
from budgetnet.text import aligned, counted, duration
from budgetnet.values import finite

TITLES = {
    "gather": "data: gather",
    "views": "data: views",
    "teacher": "teachers",
    "forward": "forward and loss",
    "backward": "backward",
    "optimizer": "optimizer",
    "average": "averaging",
    "rest": "rest",
}
"""The parts of a step, as the table calls them."""
DATA, REST, EVALUATION = 0.3, 0.2, 0.3
"""The shares of the time from which on advice is given."""


@dataclass(frozen=True)
class Part:
    """One part of a step: its `seconds` a step, and its `share` of the step in [0, 1]."""

    name: str
    seconds: float
    share: float


@dataclass(frozen=True)
class Operator:
    """What an operator of torch, or the forward pass of a module, costs: `calls` and `seconds` a step.

    An operator's seconds are its own, without those of what it calls, and `device_seconds` those of its
    kernels on a CUDA device.
    """

    name: str
    calls: float
    seconds: float
    device_seconds: float = 0.0

    @property
    def cost(self) -> float:
        """The seconds that rank it: the device's where there are any."""
        return self.device_seconds or self.seconds


@dataclass(frozen=True)
class PhaseProfile:
    """A phase's step at its last `resolution` (pixels) and `batch_size`, measured over `steps` steps.

    `seconds` are those of a step, `evaluation` those of an evaluation batch of `evaluated` images (NaN and 0
    where nothing is evaluated). `epochs` epochs have `epoch_steps` steps and evaluate `images` images each.
    `threads` are the seconds of a step with so many threads, where several were asked for. `macs` are the
    multiply-accumulates of a step, forward, backward and in the optimizer; None where steps are compiled.
    """

    name: str
    resolution: int
    batch_size: int
    steps: int
    seconds: float
    parts: tuple[Part, ...]
    operators: tuple[Operator, ...]
    modules: tuple[Operator, ...]
    evaluation: float = math.nan
    evaluated: int = 0
    epochs: int = 1
    epoch_steps: int = 1
    images: int = 0
    threads: Mapping[int, float] = field(default_factory=dict)
    macs: int | None = None

    @property
    def images_per_second(self) -> float:
        """Training images a second."""
        return self.batch_size / self.seconds

    @property
    def data_share(self) -> float:
        """The part of a step that fetching images and making views takes."""
        return sum(part.share for part in self.parts if part.name in ("gather", "views"))

    @property
    def macs_per_second(self) -> float:
        """Multiply-accumulates a second while networks and the optimizer compute; NaN if not counted."""
        computing = ("teacher", "forward", "backward", "optimizer")
        seconds = sum(part.seconds for part in self.parts if part.name in computing)
        return self.macs / seconds if self.macs is not None and seconds else math.nan

    @property
    def epoch_evaluation(self) -> float:
        """Seconds of evaluation after each epoch, as far as this batch tells."""
        return self.evaluation / self.evaluated * self.images if self.evaluated else 0.0

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch with its evaluation, as far as these steps tell."""
        return self.epoch_steps * self.seconds + self.epoch_evaluation

    def json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        more = {
            "images_per_second": self.images_per_second,
            "data_share": self.data_share,
            "macs_per_second": self.macs_per_second,
            "epoch_seconds": self.epoch_seconds,
        }
        return {k: finite(v) for k, v in {**asdict(self), **more}.items()}

    def __str__(self) -> str:
        head = (
            f"{self.name}: {self.resolution} px, batch {self.batch_size}, {1000 * self.seconds:.2f} ms "
            f"a step, {self.images_per_second:,.0f} images/s (n = {self.steps} steps)"
        )
        rows = [["where the time goes", "ms a step", "share"]]
        rows += [[TITLES[p.name], f"{1000 * p.seconds:.3f}", f"{100 * p.share:.1f} %"] for p in self.parts]
        parts = [head, aligned(rows)]
        if self.evaluated:
            pace = f"{self.evaluated / self.evaluation:,.0f} images/s"
            part = 100 * self.epoch_evaluation / self.epoch_seconds
            parts.append(
                f"evaluation: {1000 * self.evaluation:.2f} ms for {self.evaluated} images, {pace}; "
                f"{part:.0f} % of an epoch's time"
            )
        parts.append(
            f"an epoch of {counted(self.epoch_steps, 'step')} takes about "
            f"{duration(self.epoch_seconds)}, the phase's {self.epochs:,} about "
            f"{duration(self.epochs * self.epoch_seconds)}"
        )
        if self.threads:
            timings = ", ".join(f"{1000 * seconds:.2f} ms with {n}" for n, seconds in self.threads.items())
            parts.append(f"a step by the number of threads: {timings}")
        for title, costs in (("operator", self.operators), ("module, forward", self.modules)):
            if costs:
                parts.append(_costs(title, costs))
        return "\n".join(parts)


@dataclass(frozen=True)
class Profile:
    """Where the time of a recipe goes, phase by phase; `str()` of it is what `budgetnet profile` prints.

    `peak_bytes` is the most memory that was held: on a CUDA device that of its tensors, else that of the
    whole process. `profiled` is how many times as long a step took while torch's profiler watched: operators
    and modules were measured then, the parts of a step were not. `matmul` are the multiply-accumulates a
    second of a large product of matrices in this process, by precision: the machine at its best.
    """

    phases: tuple[PhaseProfile, ...]
    device: str
    threads: int
    precision: str
    peak_bytes: int
    profiled: float
    advice: tuple[str, ...] = ()
    matmul: Mapping[str, float] = field(default_factory=dict)

    def of_peak(self, phase: PhaseProfile) -> float:
        """How much of its precision's `matmul` a phase's steps reach while they compute; NaN if not known."""
        return phase.macs_per_second / self.matmul.get(self.precision, math.nan)

    @property
    def seconds(self) -> float:
        """Seconds of the whole recipe, as far as these steps tell."""
        return sum(phase.epochs * phase.epoch_seconds for phase in self.phases)

    def json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        entries = {
            name: finite(getattr(self, name)) for name in ("device", "threads", "precision", "peak_bytes")
        }
        entries |= {"seconds": finite(self.seconds), "profiled": finite(self.profiled)}
        phases = [{**each.json(), "of_matmul": finite(self.of_peak(each))} for each in self.phases]
        return {**entries, "matmul": dict(self.matmul), "phases": phases, "advice": list(self.advice)}

    def __str__(self) -> str:
        threads = "" if self.device.startswith("cuda") else f", {counted(self.threads, 'thread')}"
        last = [
            f"the whole recipe takes about {duration(self.seconds)} at this pace",
            f"peak memory {self.peak_bytes / 1e6:,.0f} MB",
            "operators and modules were timed under torch's profiler, which made a step take "
            f"{self.profiled:.1f} times as long",
            *self._arithmetic(),
            *(f"advice: {sentence}" for sentence in self.advice),
        ]
        return "\n\n".join(
            [f"{self.device}{threads}, {self.precision}", *map(str, self.phases), "\n".join(last)]
        )

    def _arithmetic(self) -> list[str]:
        """What the machine's best is, and how near to it each phase comes."""
        best = ", ".join(f"{rate / 1e9:,.3g} GMAC/s in {name}" for name, rate in self.matmul.items())
        near = [(each, self.of_peak(each)) for each in self.phases]
        lines = [
            f"{each.name}: {(each.macs or 0) / 1e9:,.3g} GMAC a step, computed at "
            f"{each.macs_per_second / 1e9:,.3g} GMAC/s, {share:.2f} of that in {self.precision}"
            for each, share in near
            if math.isfinite(share)
        ]
        return [f"a large product of matrices reaches {best}", *lines] if best else []


def _costs(title: str, operators: tuple[Operator, ...]) -> str:
    device = any(each.device_seconds for each in operators)
    rows = [[title, "calls a step", *(["CUDA ms"] if device else []), "CPU ms"]]
    for each in operators:
        cells = [each.name, f"{each.calls:,.3g}"]
        cells += [f"{1000 * each.device_seconds:.3f}"] if device else []
        rows.append([*cells, f"{1000 * each.seconds:.3f}"])
    return aligned(rows)


def advise(phases: Sequence[PhaseProfile], data: Data, device: torch.device) -> tuple[str, ...]:
    """What is worth changing, a sentence each; nothing where nothing is clearly off."""
    # The phase that most of the time goes into.
    phase = max(phases, key=lambda each: each.epochs * each.epoch_seconds)
    shares = {part.name: part.share for part in phase.parts}
    sentences = [*_data(phase, shares, data, device), *_threads(phase)]
    if shares.get("rest", 0.0) > REST:
        sentences.append(
            f"{100 * shares['rest']:.0f} % of a step of {phase.name} is neither data nor network: the step "
            "is so short that what surrounds it shows; a larger batch_size makes it matter less"
        )
    evaluation = phase.epoch_evaluation / phase.epoch_seconds
    if evaluation > EVALUATION:
        sentences.append(
            f"{100 * evaluation:.0f} % of an epoch of {phase.name} is evaluation: give its epochs more views "
            "(and make them fewer), or hold fewer images out"
        )
    return tuple(sentences)


def _data(phase: PhaseProfile, shares: dict[str, float], data: Data, device: torch.device) -> list[str]:
    if phase.data_share <= DATA:
        return []
    share = f"data take {100 * phase.data_share:.0f} % of a step of {phase.name}"
    stored = min(data.train.shape[-2:])
    if shares.get("gather", 0.0) > shares.get("views", 0.0):
        where = "" if data.train.images.device == device else "; images on the GPU need no copying"
        return [
            f"{share}, most of it to fetch the images: let them lie in memory, or store them smaller{where}"
        ]
    if stored > 1.5 * phase.resolution:
        return [
            f"{share}, most of it to make views: the images are stored at {stored} px for views of "
            f"{phase.resolution} px; store them at {round(1.15 * phase.resolution)} px"
        ]
    return [f"{share}, most of it to make views: leave out the costliest steps of augment, or train on a GPU"]


def _threads(phase: PhaseProfile) -> list[str]:
    if len(phase.threads) < 2:
        return []
    best = min(phase.threads, key=lambda count: phase.threads[count])
    most = max(phase.threads)
    if best == most or phase.threads[most] < 1.05 * phase.threads[best]:
        return []
    times = phase.threads[most] / phase.threads[best]
    named = counted(best, "thread")
    return [
        f"{most} threads take {times:.2f} times as long as {named} for a step of {phase.name}: "
        f"set OMP_NUM_THREADS={best}"
    ]
