"""Phase: one stretch of training, as a plain value, with its resolution and when it ends early."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

from budgetnet.augment import Step, listed
from budgetnet.optim import OptimizerFactory, monitored_by
from budgetnet.recipe.groups import called, stretched_optimizer
from budgetnet.recipe.testing import Test
from budgetnet.recipe.unlabelled import FixMatch, PseudoLabels
from budgetnet.schedule import (
    Measured,
    Reactive,
    Schedule,
    Timed,
    acts,
    check_monitor,
    is_schedule,
    monitors,
    rises,
    stretched,
)
from budgetnet.values import above_zero, number, one_of, whole


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
            whole(f"Ramp's {name}", getattr(self, name))

    def __call__(self, t: float) -> int:
        """The resolution at progress t in [0, 1): both ends are reached, each value for an equal time."""
        low, high = round(self.first / self.multiple), round(self.last / self.multiple)
        # Both ends may lie at one multiple.
        levels = abs(high - low) + 1 if high != low else 1 + (self.first != self.last)
        at = min(int(t * levels), levels - 1)
        if at == levels - 1:
            return self.last
        return self.first if at == 0 else (low + (at if high > low else -at)) * self.multiple


Resolution = int | Ramp | Callable[[float], int]


@dataclass(frozen=True)
class EarlyStop:
    """End the phase once `monitor` has not improved on its best by `least` for `patience` epochs in a row.

    It is "val_loss", "val_accuracy", "train_loss", "train_accuracy", or that of one of the recipe's
    metrics, such as "val_f1". What ends in loss, error or ece is better when it falls, all else when it
    rises.

    NaN never counts as an improvement.
    """

    patience: int = 10
    monitor: str = "val_loss"
    least: float = 0.0

    def __post_init__(self) -> None:
        whole("EarlyStop's patience", self.patience)
        check_monitor("EarlyStop's monitor", self.monitor)
        number("EarlyStop's least", self.least, least=0)

    def fires(self, history: Sequence[Measured]) -> bool:
        """Whether the phase should end after these finished epochs of it."""
        sign = 1.0 if rises(self.monitor) else -1.0
        best, since = -math.inf, 0
        for epoch in history:
            figure = sign * epoch.measure(self.monitor)
            if figure > best + (self.least if best > -math.inf else 0.0):
                best, since = figure, 0
            else:
                since += 1
        return since >= self.patience


@dataclass(frozen=True)
class Phase:
    """One stretch of training: `epochs` epochs at one `resolution` (pixels) and learning rate schedule `lr`.

    `augment` lists the steps of the training views, in order. An epoch shows each training image `views`
    times. `trains` names the parts that learn (prefixes of module names, such as "head"; all by default);
    the others keep their parameters, statistics and dropout. Of the parts that `calibrates` names, the
    batch-norm statistics move although nothing else does; `trains=()` with `calibrates=["*"]` learns nothing
    and measures the statistics anew at the phase's resolution. `stop` ends the phase early. A phase starts
    from the weights that the one before it ended with (`start="last"`) or from its best validated ones
    ("best"). `test` says how it is validated, `batch_size` and `optimizer` override the recipe's. `pseudo`
    says how the unlabelled images are used, with `PseudoLabels` or `FixMatch`.
    """

    epochs: int
    resolution: Resolution
    lr: Schedule = 0.0
    augment: Sequence[Step] = ()
    views: float = 1
    trains: Sequence[str] | None = None
    calibrates: Sequence[str] = ()
    batch_size: int | None = None
    optimizer: OptimizerFactory | None = None
    stop: EarlyStop | None = None
    start: Literal["last", "best"] = "last"
    test: Test = Test()
    pseudo: PseudoLabels | FixMatch | None = None
    name: str = ""

    def __post_init__(self) -> None:
        whole("Phase's epochs", self.epochs)
        if isinstance(self.resolution, int):
            whole("Phase's resolution", self.resolution)
        elif not callable(self.resolution):
            raise ValueError(f"Phase's resolution should be pixels or a Ramp, not {self.resolution!r}")
        above_zero("Phase's views", self.views)
        if self.batch_size is not None:
            whole("Phase's batch_size", self.batch_size)
        if self.optimizer is not None:
            called("Phase", "optimizer", self.optimizer)
        one_of("Phase's start", self.start, ("last", "best"))
        object.__setattr__(self, "augment", listed("Phase", "augment", self.augment))
        self._check_parts()
        self._check_rate()
        self._check_test()

    def _check_parts(self) -> None:
        for name in ("trains", "calibrates"):
            patterns = getattr(self, name)
            if patterns is None and name == "trains":
                continue
            names = isinstance(patterns, Sequence) and not isinstance(patterns, str)
            if not names or not all(isinstance(part, str) for part in patterns):
                raise ValueError(
                    f"Phase's {name} should be a list of module names such as ['head'], not {patterns!r}"
                )
            object.__setattr__(self, name, tuple(patterns))
        if self.trains == () and not self.calibrates:
            raise ValueError(
                "Phase's trains should be a list of module names such as ['head'], and is empty; "
                "only a phase that calibrates may train nothing"
            )

    @property
    def learns(self) -> bool:
        """Whether any weights learn; a phase that only calibrates takes no optimizer steps."""
        return self.trains != ()

    def _check_rate(self) -> None:
        if not self.learns:
            return
        if isinstance(self.lr, int | float):
            above_zero("Phase's lr", self.lr)
        elif not is_schedule(self.lr):
            raise ValueError(
                f"Phase's lr should be a number or a schedule such as Cosine(0.1), not {self.lr!r}"
            )
        if isinstance(self.lr, Timed):
            self.lr.over(self.epochs)
        if isinstance(self.lr, Reactive) and self.stop and self.stop.monitor in monitors(self.lr):
            first = _acts(self.lr, self.epochs)
            if first is not None and self.stop.patience < first:
                raise ValueError(
                    f"Phase's stop would always fire before its lr can drop: EarlyStop ends the phase after "
                    f"{self.stop.patience} epochs without improvement, {type(self.lr).__name__} lowers the "
                    f"rate after {first - 1}; give EarlyStop a patience of {first} or more"
                )

    def _check_test(self) -> None:
        if not isinstance(self.test, Test):
            raise ValueError(f"Phase's test should be a Test(resize, crop), not {self.test!r}")
        for resolution in (self.resolution_at(0.0), self.last_resolution):
            whole("Phase's resolution (pixels)", resolution)
        crop = self.test.at(self.last_resolution)[1]
        if self.test.shift >= crop:
            raise ValueError(
                f"the shift of Phase's test should be below its crop of {crop} pixels, not {self.test.shift}"
            )
        if self.stop is not None and not isinstance(self.stop, EarlyStop):
            raise ValueError(f"Phase's stop should be an EarlyStop or None, not {self.stop!r}")
        if self.pseudo is not None and not isinstance(self.pseudo, PseudoLabels | FixMatch):
            raise ValueError(
                f"Phase's pseudo should be PseudoLabels(), FixMatch() or None, not {self.pseudo!r}"
            )

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

    def most_images(self, train: int, unlabelled: int, classes: int) -> int:
        """How many images an epoch goes over, at most: those of training, and those that may join them."""
        return train + (self.pseudo.most(unlabelled, classes) if isinstance(self.pseudo, PseudoLabels) else 0)

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
        stopping = {self.stop.monitor} if self.stop else set()
        return stopping | monitored_by(self.optimizer) | (monitors(self.lr) if self.learns else set())

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
        if isinstance(lr, Reactive) and stop and stop.monitor in monitors(lr):
            # A shorter patience for both, in an order that can still work.
            stop = replace(stop, patience=max(stop.patience, _acts(lr, self.epochs) or 0))
        views = passes / epochs
        optimizer = self.optimizer and stretched_optimizer(self.optimizer, length)
        return replace(
            self,
            epochs=epochs,
            lr=lr,
            stop=stop,
            optimizer=optimizer,
            views=round(views) if views > 4 else views,
        )


def _acts(lr: Reactive, epochs: int) -> int | None:
    """After how many flat epochs a schedule acts, None where it does not or fails; its trial says of that."""
    try:
        return acts(lr, max(100, 2 * epochs))
    except Exception:
        return None
