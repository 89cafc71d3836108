"""Speed: whether the training step runs eagerly, compiled, or as CUDA graphs; decided before it starts."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from budgetnet.augment import FusedViews
from budgetnet.budget import macs
from budgetnet.data import Split
from budgetnet.recipe import Recipe

Speed = Literal["auto", "eager", "compile", "graphs"]

PAYS = 1e16
"""Multiply-accumulates of a training, backward included, from which compiling is worth its minutes on CUDA.

An estimate: what a GPU does in about five minutes where a small network is bound by its memory traffic.
"""
STATIC = 4
"""Up to so many resolutions are compiled each for itself; more share one compilation of any size."""


@dataclass(frozen=True)
class SpeedChoice:
    """How the training step is executed, `chosen` for the reason `why`."""

    chosen: Literal["eager", "compile", "graphs"]
    why: str


def check_speed(speed: str, device: torch.device) -> None:
    """Raise ValueError unless it is a known speed that the device has."""
    if speed not in get_args(Speed):
        names = ", ".join(repr(name) for name in get_args(Speed))
        raise ValueError(f"Trainer's speed should be one of {names}, not {speed!r}")
    if speed == "graphs" and device.type != "cuda":
        raise ValueError(f"speed 'graphs' records CUDA graphs, and the device is {device}; use 'auto'")


def choose(speed: Speed, device: torch.device, model: nn.Module, recipe: Recipe, train: Split) -> SpeedChoice:
    """The way for this training of `model` on the images of `train`.

    What it says depends on nothing but its arguments, so that the same training always runs the same way.
    """
    sizes = len(_sizes(recipe))
    if speed == "graphs" and sizes > STATIC:
        why = f"graphs are recorded for up to {STATIC} resolutions, and the recipe has {sizes}"
        return SpeedChoice("compile", why)
    if speed != "auto":
        return SpeedChoice(speed, "asked for")
    if device.type != "cuda":
        return SpeedChoice("eager", "on a CPU compiled steps were no faster, and took minutes to compile")
    work = _work(model, recipe, train)
    size = f"about {work:.1e} multiply-accumulates in all"
    if work < PAYS:
        return SpeedChoice("eager", f"{size}: over before compiling would have paid")
    return SpeedChoice("compile", f"{size}: enough for compiling to pay")


def _work(model: nn.Module, recipe: Recipe, train: Split) -> float:
    """The multiply-accumulates of the whole training; a backward pass costs two forward ones."""
    count, channels = len(train), int(train.shape[1])
    total = 0.0
    for phase in recipe.phases:
        if phase.learns:
            each = macs(model, phase.last_resolution, channels=channels)
            total += 3.0 * each * phase.epochs * phase.views * count
    return total


def _sizes(recipe: Recipe) -> set[int]:
    """The resolutions that a training goes through."""
    return {phase.resolution_at(k / 64) for phase in recipe.phases for k in range(64) if phase.learns}


def fused_views(device: torch.device, recipe: Recipe, choice: SpeedChoice) -> FusedViews | None:
    """The views of a training whose steps are compiled, where compiling them pays: not on a CPU."""
    if choice.chosen == "eager" or device.type != "cuda":
        return None
    return FusedViews(sizes_open=len(_sizes(recipe)) > STATIC)


class Compiled:
    """A model compiled for training: called as the model is, with the same parameters, statistics and masks.

    Each of a few resolutions is compiled for itself; many, as in a ramp, share one compilation whose sizes
    are left open. Nothing is compiled before the first call.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, choice: SpeedChoice) -> None:
        self._open = len(_sizes(recipe)) > STATIC
        self._graphs = choice.chosen == "graphs"
        # Else the compiler draws masks of dropout of its own, and the training is another one.
        options: dict[str, Any] = {"fallback_random": True}
        if self._graphs:
            options["triton.cudagraphs"] = True
        dynamic = None if self._open else False
        self._call: Callable[[Tensor], Tensor] = torch.compile(model, dynamic=dynamic, options=options)

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, C, r, r) to logits (B, K)."""
        if self._open:
            for side in (2, 3):
                torch._dynamo.maybe_mark_dynamic(images, side)
        if self._graphs:
            # What the step before left in the graphs' memory is not needed any more.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return self._call(images)


GATHER, VIEWS, TEACHER, FORWARD, BACKWARD, OPTIMIZER, AVERAGE = PARTS = (
    *("gather", "views", "teacher", "forward", "backward", "optimizer", "average"),
)
"""The parts of a step, in their order: the first two are its data."""

EVERY = 8
"""On CUDA one step of so many is timed."""

_Marks = list[tuple[str, torch.cuda.Event]]


class Clock:
    """Adds up the seconds of each part of a step: by the host's clock, or by events on a CUDA device.

    On CUDA every `every`-th step is timed, and the others are taken to be like it: its events are read when
    they are there, so that nothing waits. What lies between two events is the device's time, and its waiting
    for the host. `told` is called with the name of each part as it begins, and "" at a step's end.
    """

    def __init__(self, *, every: int = EVERY, told: Callable[[str], None] | None = None) -> None:
        self.every = every
        self.told = told
        self._spent: defaultdict[str, float] = defaultdict(float)
        self.timed = 0
        self._host, self._part, self._since = True, "", 0.0
        self._marks: _Marks | None = None
        self._waiting: _Marks | None = None

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of each part, over the steps that were timed."""
        self._read()
        # What lies between two steps is no part of any.
        return {part: spent for part, spent in self._spent.items() if part}

    def clear(self) -> None:
        """Forget everything: an epoch begins."""
        self.restore({})

    def capture(self) -> dict[str, Any]:
        """What has been added up so far, as plain values."""
        return {"timed": self.timed, "seconds": self.seconds}

    def restore(self, held: Mapping[str, Any]) -> None:
        """Go on from what `capture` gave; from nothing where that is empty."""
        self._spent = defaultdict(float, held.get("seconds", {}))
        self.timed = int(held.get("timed", 0))
        self._part, self._marks, self._waiting = "", None, None

    def begin(self, step: int, device: torch.device) -> None:
        """A step begins, the one after `step` others of its epoch."""
        self._host, self._part, self._marks = device.type != "cuda", "", None
        if self._host:
            self.timed += 1
            return
        self._read()
        if step % self.every == 0 and self._waiting is None:
            self._marks = []

    def mark(self, part: str) -> None:
        """From here on the time goes to `part`; "" ends the step."""
        if self.told is not None:
            self.told(part)
        if self._host:
            now = perf_counter()
            self._spent[self._part] += now - self._since
            self._part, self._since = part, now
        elif self._marks is not None:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((part, event))

    def end(self) -> None:
        """The step has ended."""
        self.mark("")
        if self._marks is not None:
            self._waiting, self._marks = self._marks, None

    def of(self, steps: int, *parts: str) -> float:
        """The seconds that `steps` steps spent in these parts; the device has been waited for."""
        spent = self.seconds
        return sum(spent.get(part, 0.0) for part in parts) * steps / self.timed if self.timed else 0.0

    def _read(self) -> None:
        """Add up a step's events, where the device has come to them."""
        if self._waiting is None or not self._waiting[-1][1].query():  # type: ignore[no-untyped-call]
            return
        for (part, begun), (_, ended) in zip(self._waiting, self._waiting[1:]):
            self._spent[part] += begun.elapsed_time(ended) / 1000
        self.timed += 1
        self._waiting = None
