"""Recipe and Phase: how a model learns, as plain values, checked when they are made; nothing runs here."""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, Self

from budgetnet.augment import Act, Colour, Step, Warp
from budgetnet.loss import LabelSmoothingLoss, Loss
from budgetnet.optim import SGD, OptimizerFactory
from budgetnet.schedule import Measured, Plateau, Schedule, Timed, stretched

MONITORS = ("val_loss", "val_accuracy", "train_loss", "train_accuracy")


def _whole(owner: str, name: str, found: object, least: int = 1) -> None:
    if isinstance(found, bool) or not isinstance(found, int) or found < least:
        raise ValueError(f"{owner}'s {name} should be a whole number of {least} or more, not {found!r}")


def _above_zero(owner: str, name: str, found: object) -> None:
    number = isinstance(found, int | float) and not isinstance(found, bool)
    if not number or not math.isfinite(found) or found <= 0:  # type: ignore[arg-type, operator]
        raise ValueError(f"{owner}'s {name} should be a number above 0, not {found!r}")


def _one_of(owner: str, name: str, found: object, choices: Sequence[str]) -> None:
    if found not in choices:
        near = difflib.get_close_matches(str(found), choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{owner}'s {name} should be one of {', '.join(choices)}, not {found!r}{hint}")


@dataclass(frozen=True)
class Ramp:
    """A resolution that climbs from `first` to `last` pixels over the phase, in multiples of `multiple`.

    Reference: https://arxiv.org/abs/2104.00298 (progressive learning).
    """

    first: int
    last: int
    multiple: int = 8

    def __post_init__(self) -> None:
        for name in ("first", "last", "multiple"):
            _whole("Ramp", name, getattr(self, name))

    def __call__(self, t: float) -> int:
        """The resolution at progress t in [0, 1): both ends are reached, each value for an equal time."""
        low, high = round(self.first / self.multiple), round(self.last / self.multiple)
        levels = abs(high - low) + 1
        at = min(int(t * levels), levels - 1)
        if at == levels - 1:
            return self.last
        return self.first if at == 0 else (low + (at if high > low else -at)) * self.multiple


Resolution = int | Ramp | Callable[[float], int]


@dataclass(frozen=True)
class Test:
    """How a phase is validated: shorter side to `resize` pixels, then the central `crop`.

    Both default to the resolution that the phase ends at.

    The rest is for parity with work that validated in other ways: `augment` steps drawn `views` times for
    each image, and `batch_statistics=True`, which normalises by the batch as in training.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    resize: int | None = None
    crop: int | None = None
    augment: Sequence[Step] = ()
    views: int = 1
    batch_statistics: bool = False

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            if getattr(self, name) is not None:
                _whole("Test", name, getattr(self, name))
        _whole("Test", "views", self.views)
        if self.resize is not None and self.crop is not None and self.resize < self.crop:
            raise ValueError(
                f"Test's resize should be at least its crop of {self.crop} pixels, not {self.resize}"
            )
        object.__setattr__(self, "augment", _steps("Test", self.augment))

    def at(self, resolution: int) -> tuple[int, int]:
        """(resize, crop) in pixels for a phase that ends at `resolution`."""
        crop = self.crop or (min(self.resize, resolution) if self.resize else resolution)
        return max(self.resize or crop, crop), crop


@dataclass(frozen=True)
class EarlyStop:
    """End the phase once `monitor` has not improved on its best by `least` for `patience` epochs in a row.

    NaN never counts as an improvement.
    """

    patience: int = 10
    monitor: str = "val_loss"
    least: float = 0.0

    def __post_init__(self) -> None:
        _whole("EarlyStop", "patience", self.patience)
        _one_of("EarlyStop", "monitor", self.monitor, MONITORS)
        if not self.least >= 0:
            raise ValueError(f"EarlyStop's least should be 0 or more, not {self.least!r}")

    def fires(self, history: Sequence[Measured]) -> bool:
        """Whether the phase should end after these finished epochs of it."""
        sign = 1.0 if self.monitor.endswith("accuracy") else -1.0
        best, since = -math.inf, 0
        for epoch in history:
            found = sign * epoch.measure(self.monitor)
            if found > best + (self.least if best > -math.inf else 0.0):
                best, since = found, 0
            else:
                since += 1
        return since >= self.patience


@dataclass(frozen=True)
class EMA:
    """An exponential moving average of the weights and batch-norm statistics, updated at every step.

    `decay` is per step; early on it is min(decay, (1 + n) / (10 + n)) after n steps, so that the start is
    forgotten. Reference: https://arxiv.org/abs/1608.03983; the warm-up is TensorFlow's.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ValueError(f"EMA's decay should be in (0, 1), not {self.decay!r}")

    def at(self, step: int) -> float:
        """The decay of the update after `step` earlier ones."""
        return min(self.decay, (1 + step) / (10 + step))


def _steps(owner: str, steps: object) -> tuple[Step, ...]:
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        raise ValueError(f"{owner}'s augment should be a list of steps, not {steps!r}")
    for step in steps:
        if isinstance(step, type):
            raise ValueError(
                f"{owner}'s augment holds the class {step.__name__}; call it: {step.__name__}(...)"
            )
        if not (callable(step) or isinstance(step, Warp | Colour | Act)):
            raise ValueError(
                f"{owner}'s augment should hold steps such as Flip() or callables "
                f"(images, labels) -> (images, labels), not {step!r}"
            )
    return tuple(steps)


@dataclass(frozen=True)
class Phase:
    """One stretch of training: `epochs` epochs at one `resolution` (pixels) and learning rate schedule `lr`.

    `augment` lists the steps of the training views, in order. An epoch shows each training image `views`
    times. `trains` names the parts that learn (prefixes of module names, such as "head"; all by default);
    the others keep their parameters and statistics. `stop` ends the phase early. A phase starts from the
    weights that the one before it ended with (`start="last"`) or from its best validated ones ("best").
    `test` says how it is validated, `batch_size` overrides the recipe's.
    """

    epochs: int
    resolution: Resolution
    lr: Schedule
    augment: Sequence[Step] = ()
    views: float = 1
    trains: Sequence[str] | None = None
    batch_size: int | None = None
    stop: EarlyStop | None = None
    start: Literal["last", "best"] = "last"
    test: Test = Test()
    name: str = ""

    def __post_init__(self) -> None:
        _whole("Phase", "epochs", self.epochs)
        if isinstance(self.resolution, int):
            _whole("Phase", "resolution", self.resolution)
        elif not callable(self.resolution):
            raise ValueError(f"Phase's resolution should be pixels or a Ramp, not {self.resolution!r}")
        _above_zero("Phase", "views", self.views)
        if self.batch_size is not None:
            _whole("Phase", "batch_size", self.batch_size)
        _one_of("Phase", "start", self.start, ("last", "best"))
        object.__setattr__(self, "augment", _steps("Phase", self.augment))
        self._check_parts()
        self._check_rate()
        self._check_test()

    def _check_parts(self) -> None:
        if self.trains is None:
            return
        if (
            isinstance(self.trains, str)
            or not self.trains
            or not all(isinstance(p, str) for p in self.trains)
        ):
            raise ValueError(
                f"Phase's trains should be a list of module names such as ['head'], not {self.trains!r}"
            )
        object.__setattr__(self, "trains", tuple(self.trains))

    def _check_rate(self) -> None:
        if isinstance(self.lr, int | float):
            _above_zero("Phase", "lr", self.lr)
        elif isinstance(self.lr, type) or not (
            callable(self.lr) or hasattr(self.lr, "over") or hasattr(self.lr, "of")
        ):
            raise ValueError(
                f"Phase's lr should be a number or a schedule such as Cosine(0.1), not {self.lr!r}"
            )
        if isinstance(self.lr, Timed):
            self.lr.over(self.epochs)
        if isinstance(self.lr, Plateau) and self.stop and self.stop.monitor == self.lr.monitor:
            acts = self.lr.patience + 1
            if self.stop.patience <= acts:
                raise ValueError(
                    f"Phase's stop would always fire before its lr can drop: EarlyStop ends the phase after "
                    f"{self.stop.patience} epochs without improvement, Plateau lowers the rate after {acts}; "
                    f"give EarlyStop a patience of {acts + 1} or more"
                )

    def _check_test(self) -> None:
        if not isinstance(self.test, Test):
            raise ValueError(f"Phase's test should be a Test(resize, crop), not {self.test!r}")
        if self.stop is not None and not isinstance(self.stop, EarlyStop):
            raise ValueError(f"Phase's stop should be an EarlyStop or None, not {self.stop!r}")

    def resolution_at(self, t: float) -> int:
        """The resolution in pixels at progress t in [0, 1)."""
        return self.resolution if isinstance(self.resolution, int) else int(self.resolution(t))

    @property
    def last_resolution(self) -> int:
        """The resolution in pixels that the phase ends at."""
        return self.resolution_at(math.nextafter(1.0, 0.0))

    @property
    def resolutions(self) -> list[int]:
        """Every resolution in pixels that the phase trains or is tested at, rising."""
        trained = {self.resolution_at(k / 64) for k in range(64)} | {self.last_resolution}
        return sorted(trained | {self.test.at(self.last_resolution)[1]})

    def steps(self, images: int, batch_size: int) -> tuple[int, int]:
        """The steps of an epoch over `images` training images, and the images of each.

        `batch_size` is the recipe's. The last images of an epoch that fill no batch are left out, others in
        each epoch.
        """
        seen = max(1, round(self.views * images))
        size = min(self.batch_size or batch_size, seen)
        return seen // size, size

    @property
    def monitors(self) -> set[str]:
        """The figures that the phase's own decisions read."""
        found = {self.stop.monitor} if self.stop else set()
        return found | ({self.lr.monitor} if isinstance(self.lr, Plateau) else set())

    def scaled(self, factor: float) -> Self:
        """The phase with `factor` times as many views in all; schedules and patience shrink in proportion.

        Epochs are kept at ten or so where there are as many passes over the data, with fewer views each, so
        that a short run still has a curve.
        """
        passes = self.epochs * self.views * factor
        epochs = max(1, round(self.epochs * factor), min(self.epochs, 10, math.floor(passes + 1e-9)))
        length = epochs / self.epochs
        stop = self.stop and replace(self.stop, patience=max(1, round(self.stop.patience * length)))
        lr = stretched(self.lr, length)
        if isinstance(lr, Plateau):
            # A shorter patience for both, in an order that can still work.
            lr = replace(lr, patience=max(0, round(lr.patience * length)))
            if stop and stop.monitor == lr.monitor:
                stop = replace(stop, patience=max(stop.patience, lr.patience + 2))
        views = passes / epochs
        return replace(self, epochs=epochs, lr=lr, stop=stop, views=round(views) if views > 4 else views)


@dataclass(frozen=True)
class Recipe:
    """A whole training: `phases` in order, and what they share.

    `average` keeps an averaged copy of the weights, which then is what gets validated. `keep` chooses the
    weights that the run ends with: the "last", the "best" validated, or the "averaged". `clip` bounds the
    gradient's norm. `seed` decides order, augmentation and dropout, and in a recipe file the first weights
    too: same seed, same run. In a script of your own, seed torch before you build the model.
    """

    phases: Sequence[Phase]
    optimizer: OptimizerFactory = SGD()
    loss: Loss = LabelSmoothingLoss(0.0)
    batch_size: int = 128
    average: EMA | None = None
    clip: float | None = None
    keep: Literal["last", "best", "averaged"] = "last"
    seed: int = 0

    def __post_init__(self) -> None:
        phases = [self.phases] if isinstance(self.phases, Phase) else self.phases
        if not isinstance(phases, Sequence) or not phases or not all(isinstance(p, Phase) for p in phases):
            raise ValueError(f"Recipe's phases should be a list of at least one Phase, not {self.phases!r}")
        object.__setattr__(self, "phases", tuple(phases))
        for name in ("optimizer", "loss"):
            found = getattr(self, name)
            if isinstance(found, type) and is_dataclass(found):
                raise ValueError(
                    f"Recipe's {name} is the class {found.__name__}; call it: {found.__name__}(...)"
                )
            if not callable(found):
                raise ValueError(
                    f"Recipe's {name} should be callable, such as SGD() or a loss, not {found!r}"
                )
        _whole("Recipe", "batch_size", self.batch_size)
        _whole("Recipe", "seed", self.seed, least=0)
        if self.clip is not None:
            _above_zero("Recipe", "clip", self.clip)
        _one_of("Recipe", "keep", self.keep, ("last", "best", "averaged"))
        if self.average is not None and not isinstance(self.average, EMA):
            raise ValueError(f"Recipe's average should be an EMA(decay) or None, not {self.average!r}")
        if self.keep == "averaged" and self.average is None:
            raise ValueError("Recipe's keep='averaged' needs an average, such as average=EMA(0.999)")

    def scaled(self, factor: float) -> Self:
        """The whole recipe made shorter (or longer) in proportion: 0.05 is a twentieth of the views."""
        _above_zero("scaled", "factor", factor)
        return replace(self, phases=[phase.scaled(factor) for phase in self.phases])

    def changed(self, path: str, found: object) -> Self:
        """The recipe with one value changed, by its dotted path: "batch_size", "phases.0.lr.peak"."""
        changed: Self = _changed(self, path.split("."), found, "recipe")
        return changed

    def describe(self) -> dict[str, Any]:
        """The recipe as plain JSON values, for records."""
        described: dict[str, Any] = described_value(self)
        return described


def _changed(owner: Any, path: list[str], found: object, where: str) -> Any:
    name, rest = path[0], path[1:]
    if isinstance(owner, tuple):
        if not name.isdigit() or int(name) >= len(owner):
            raise ValueError(f"{where} has the numbers 0 to {len(owner) - 1}, not {name!r}")
        at = int(name)
        item = _changed(owner[at], rest, found, f"{where}.{at}") if rest else found
        return (*owner[:at], item, *owner[at + 1 :])
    if not is_dataclass(owner) or isinstance(owner, type):
        raise ValueError(
            f"{where} is {owner!r}, which has no {name!r}; change it as a whole in the recipe's file"
        )
    names = [field.name for field in fields(owner)]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
        raise ValueError(f"{where} has no {name!r}; {hint}")
    new = _changed(getattr(owner, name), rest, found, f"{where}.{name}") if rest else found
    return replace(owner, **{name: new})


def described_value(value: object) -> Any:
    """`value` as plain JSON: dataclasses by class and fields, callables by name, the rest by its repr."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if is_dataclass(value) and not isinstance(value, type):
        entries = {field.name: described_value(getattr(value, field.name)) for field in fields(value)}
        return {"class": type(value).__name__, **entries}
    if isinstance(value, Mapping):
        return {str(key): described_value(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [described_value(item) for item in value]
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)
