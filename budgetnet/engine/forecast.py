"""Forecast: how long a recipe takes on this machine, from a few of its steps, and what fits into a time."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from budgetnet.budget import macs
from budgetnet.data import Data
from budgetnet.engine.loop import Event, measure, steps
from budgetnet.engine.measure import Engine
from budgetnet.engine.speed import SpeedChoice
from budgetnet.engine.state import State
from budgetnet.engine.training import Execution, Training, moved
from budgetnet.engine.trial import copied
from budgetnet.randomness import own_randomness
from budgetnet.recipe import Phase, PseudoLabels, Recipe
from budgetnet.text import duration

WARM, LEAST, MOST = 2, 3, 60
"""Steps at each resolution: before anything is timed, and how many are timed at least and at most."""
SIZES = 5
"""Resolutions of a phase that are measured at most; what lies between goes by its pixels."""
MOMENTS = 200
"""At so many moments of a phase its resolution is asked."""
RATE = 1e-6
"""The learning rate of the steps that are measured. It hardly moves the copy, and yet moves it:
gradients of blocks that begin as their shortcuts would be subnormal otherwise, which CPUs take long for."""
AIM = 0.975
"""The part of a time that a training is planned for: the rest is for what no few steps show."""
SAVING = 1.005
"""Checkpoints take a hundredth of a training's time at most."""
SMALLEST = 1e-9
"""The smallest scale: no phase is longer than a step then."""
SLOWEST = {"cpu": (4e9, 0.02), "cuda": (1e12, 0.02)}
"""Multiply-accumulates a second (of a CPU's thread), and seconds of a step beside them, at the worst."""


@dataclass(frozen=True)
class PhaseTimes:
    """What one phase takes: seconds of a step with `size` images by resolution (pixels), at an epoch's end
    (`turn`), for `first` steps more than for others, and for each look at an image that is evaluated."""

    steps: Mapping[int, float]
    size: int
    turn: float
    first: float
    look: float

    def step(self, resolution: int) -> float:
        """Seconds of a step at a resolution, between measured ones by the pixels."""
        known = sorted(self.steps)
        below = max([r for r in known if r <= resolution], default=known[0])
        above = min([r for r in known if r >= resolution], default=known[-1])
        if below == above:
            return self.steps[below] * resolution**2 / below**2
        part = (resolution**2 - below**2) / (above**2 - below**2)
        return self.steps[below] + part * (self.steps[above] - self.steps[below])

    def __str__(self) -> str:
        first, last = min(self.steps), max(self.steps)
        shown = [f"{_short(self.steps[each])} at {each} px" for each in dict.fromkeys([first, last])]
        return f"a step of {self.size} images takes {' to '.join(shown)}"


@dataclass(frozen=True)
class Forecast:
    """How long a recipe of so many `phases` takes here, at whatever scale.

    `images` counts those of each split, and `joining` is how many may join those of training with
    pseudo-labels.
    """

    phases: tuple[PhaseTimes, ...]
    images: Mapping[str, int]
    classes: int

    def seconds(self, recipe: Recipe, done: Sequence[int] = ()) -> float:
        """Seconds that a training takes from its first step to its last figure, at most as it ends no phase
        early; where so many epochs of its phases are `done`, what is left of it."""
        behind = [*done, *[0] * (len(self.phases) - len(done))]
        spent = sum(map(partial(self._phase, recipe), recipe.phases, self.phases, behind))
        phase, times = recipe.phases[-1], self.phases[-1]
        plain, val = phase.test.plain, self.images.get("val", 0)
        looks = self.images.get("test", 0) * plain.looks + (val * plain.looks if plain != phase.test else 0)
        if recipe.average is not None and recipe.keep == "last":
            looks += val * phase.test.looks
        return SAVING * (spent + looks * times.look)

    def _phase(self, recipe: Recipe, phase: Phase, times: PhaseTimes, done: int) -> float:
        left = phase.epochs - done
        if left <= 0:
            return 0.0
        unlabelled = self.images.get("unlabelled", 0)
        labelled = unlabelled if isinstance(phase.pseudo, PseudoLabels) else 0
        images = phase.most_images(self.images["train"], unlabelled, self.classes)
        count, size = phase.steps(images, recipe.batch_size)
        moments = min(MOMENTS, left * count)
        share = left / phase.epochs
        sizes = [phase.resolution_at(1 - share + share * k / moments) for k in range(moments)]
        step = sum(map(times.step, sizes)) / moments * size / times.size
        looks = sum(self.images.get(name, 0) for name in recipe.measure) * phase.test.looks
        epoch = count * step + times.turn + looks * times.look
        return times.first + left * epoch + labelled * phase.test.looks * times.look

    def scale(self, scaled: Callable[[float], Recipe], seconds: float) -> float:
        """The largest scale of at most 1 whose recipe fits into so many seconds.

        Raises ValueError where even the smallest does not.
        """
        if self.seconds(scaled(1.0)) <= seconds:
            return 1.0
        least = self.seconds(scaled(SMALLEST))
        if least > AIM * seconds:
            rest = f"{_short(seconds)} is left of it" if seconds > 0 else "measuring its steps took all of it"
            raise ValueError(
                f"the recipe should fit into the time, and cannot be scaled below {_least(least)} on this "
                f"machine, with one step a phase; {rest}: give it more time, or a recipe of fewer phases or "
                "smaller tests"
            )
        low, high = math.log(SMALLEST), 0.0
        for _ in range(40):
            middle = (low + high) / 2
            fits = self.seconds(scaled(_rounded(math.exp(middle)))) <= AIM * seconds
            low, high = (middle, high) if fits else (low, middle)
        found = _rounded(math.exp(low))
        # Epochs and steps are whole: of its like, the scale that fills the time.
        times = {scale: self.seconds(scaled(scale)) for scale in _near(found, scaled(1.0))}
        return max((s for s in times if times[s] <= AIM * seconds), key=lambda s: (times[s], s))

    def __str__(self) -> str:
        return "; ".join(
            f"phase {number}: {times}" if len(self.phases) > 1 else str(times)
            for number, times in enumerate(self.phases, start=1)
        )


def _near(scale: float, whole: Recipe) -> list[float]:
    """Scales round about one, and the one itself: also those that leave a phase with whole epochs."""
    spread = [scale * (0.85 + 0.01 * k) for k in range(31)]
    epochs = [phase.epochs for phase in whole.phases]
    spread += [(math.floor(scale * count) + k) / count for count in epochs for k in (-1, 0, 1)]
    return [scale, *(_rounded(each) for each in spread if 0.5 * scale <= each < 1)]


def _rounded(scale: float) -> float:
    """Four digits of a scale, never above it."""
    unit = 10.0 ** (math.floor(math.log10(scale)) - 3)
    return max(SMALLEST, float(f"{math.floor(scale / unit) * unit:.4g}"))


def _least(seconds: float) -> str:
    return duration(math.ceil(10 * seconds / AIM) / 10)


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else duration(seconds)


def lasting(model: nn.Module, data: Data, recipe: Recipe, device: torch.device, seconds: float) -> bool:
    """Whether a training may take so long on a slow machine, counted without a step."""
    pace, step = SLOWEST["cuda" if device.type == "cuda" else "cpu"]
    pace *= 1 if device.type == "cuda" else torch.get_num_threads()
    images, channels = len(data.train), int(data.train.shape[1])
    total = 0.0
    for phase in recipe.phases:
        count, size = phase.steps(images, recipe.batch_size)
        passes = 3 if phase.learns else 1
        each = passes * macs(model, phase.last_resolution, channels=channels)
        total += phase.epochs * count * (step + size * each / pace)
    return total > seconds


def forecast(
    model: nn.Module, data: Data, recipe: Recipe, engine: Engine, choice: SpeedChoice, seconds: float
) -> Forecast:
    """Measure a few steps of each phase at each of its resolutions, and a test, on a copy of the model.

    That takes about so many `seconds`, or what LEAST steps take. Model, data, steps, loss and random
    generators are left as they are. Raises ValueError where the model cannot be copied.
    """
    with own_randomness(engine.device):
        training = copied(model, data, recipe, engine)
        if training is None:
            raise ValueError(
                "how long a step takes is measured on a copy of the model, and this one cannot be copied; "
                "give the scale itself instead"
            )
        data, recipe = moved(data, engine.device), training.recipe
        execution = Execution.chosen(training.model, data, recipe, engine, choice)
        training = replace(training, data=data, state=State(data.train), execution=execution)
        sizes = [_measured(phase) for phase in recipe.phases]
        share = seconds / (sum(map(len, sizes)) + len(sizes))
        phases = tuple(_phase(training, at, each, share) for at, each in enumerate(sizes, start=1))
    return Forecast(phases, {name: len(split) for name, split in data.splits.items()}, len(data.classes))


def _measured(phase: Phase) -> list[int]:
    """The resolutions of a phase that are measured: its smallest and largest, and some between."""
    own = sorted({phase.resolution_at((k + 0.5) / MOMENTS) for k in range(MOMENTS)})
    chosen = range(SIZES) if len(own) > SIZES else range(len(own))
    return [own[round(at * (len(own) - 1) / max(1, len(chosen) - 1))] for at in chosen]


class _Dial:
    """A resolution that is set from outside, whatever the progress."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels

    def __call__(self, t: float) -> int:
        return self.pixels


def _phase(training: Training, number: int, sizes: list[int], share: float) -> PhaseTimes:
    """Measure a phase, for about `share` seconds at each of these resolutions and for its test."""
    device, phase, dial = training.engine.device, training.recipe.phases[number - 1], _Dial(sizes[-1])
    count = len(sizes) * (WARM + MOST) + 1
    own = training.alone(number, count, resolution=dial, lr=RATE)
    seconds, first = {}, 0.0
    with closing(steps(own)) as taken:
        for dial.pixels in sizes:
            begun = _now(device)
            next(taken)
            warm = _now(device) - begun
            next(taken)
            seconds[dial.pixels] = _pace(taken, device, share)
            first += max(0.0, warm - seconds[dial.pixels]) if own.execution.compiled is not None else 0.0
        look = _look(own, phase, share)
    # Twice, since a hiccup would count for each epoch.
    short = [training.alone(number, 1, resolution=sizes[0], lr=RATE) for _ in range(2)]
    turn = min(map(_turn, short))
    return PhaseTimes(
        seconds, phase.steps(len(training.data.train), training.recipe.batch_size)[1], turn, first, look
    )


def _pace(taken: Iterator[Event], device: torch.device, share: float) -> float:
    """Seconds of a step, over some of them."""
    begun, spent, count = _now(device), 0.0, 0
    while count < MOST and (count == 0 or spent < share):
        for _ in range(LEAST):
            next(taken)
        count += LEAST
        spent = _now(device) - begun
    return spent / count


def _look(training: Training, phase: Phase, share: float) -> float:
    """Seconds of a look at an image that is evaluated."""
    split = training.data.val if training.data.val is not None else training.data.train
    spent, images = 0.0, min(len(split), phase.batch_size or training.recipe.batch_size)
    # The first batch warms up, and says how many can be timed.
    for _ in range(2):
        begun = _now(training.engine.device)
        measure(training, training.measured, split.subset(torch.arange(images)), phase, phase.test, 0)
        spent, tried = _now(training.engine.device) - begun, images
        images = min(len(split), images * max(1, min(LEAST * 3, int(share / max(spent, 1e-9)))))
    return spent / (tried * phase.test.looks)


def _turn(training: Training) -> float:
    """Seconds from an epoch's last step to its end, without its tests."""
    with closing(steps(training)) as taken:
        next(taken)
        begun = _now(training.engine.device)
        next(taken)
    return _now(training.engine.device) - begun


def _now(device: torch.device) -> float:
    """The time at which the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
