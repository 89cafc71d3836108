"""What the options of a command say, gathered into values."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from budgetnet.modelfile import Card
    from budgetnet.recipe import Test
    from budgetnet.sweep import Together
    from budgetnet.trainer import Trainer


@dataclass(frozen=True)
class Machine:
    """Where and how fast the options ask to train, and where runs are written."""

    out: str
    device: str | None
    precision: Literal["auto", "bf16", "float32"]
    speed: Literal["auto", "eager", "compile", "graphs"]
    sync_batchnorm: bool = False

    def trainer(self, *, show: bool) -> "Trainer":
        """The trainer that was asked for."""
        from budgetnet.console import say
        from budgetnet.trainer import Trainer

        trainer = Trainer(
            self.device,
            precision=self.precision,
            speed=self.speed,
            out=self.out,
            show=show,
            sync_batchnorm=self.sync_batchnorm,
        )
        trainer.aside = partial(say, error=True)
        return trainer


@dataclass(frozen=True)
class Where:
    """How many runs go at once in processes here, or which cluster they are tasks of."""

    together: int | Literal["auto"]
    on: str | None
    cpus_per_trial: float
    gpus_per_trial: float | None

    @property
    def several(self) -> bool:
        """Whether more than one run at once is asked for."""
        return self.on is not None or self.together not in ("auto", 1)

    def check(self) -> None:
        """Refuse what only Ray's tasks have."""
        if self.on is None and (self.cpus_per_trial != 1 or self.gpus_per_trial is not None):
            raise click.UsageError("--cpus-per-trial and --gpus-per-trial are of Ray's tasks: give --on too")

    def chosen(self, *, alone: bool = False) -> "Together":
        """The same as seeds() and sweep() take it; `alone`, one after the other."""
        from budgetnet.sweep import Cluster

        if self.on is not None:
            return Cluster(self.on, self.cpus_per_trial, self.gpus_per_trial or 0.0)
        return 1 if alone else self.together


@dataclass(frozen=True)
class Trials:
    """Which settings are tried with how many seeds, and how one is chosen."""

    over: tuple[str, ...]
    searched: tuple[str, ...]
    seeds: int
    metric: str


@dataclass(frozen=True)
class Searching:
    """How a search suggests and ends its trials, how long it takes, and where its study lies."""

    trials: int
    prune: str
    within: str | None
    storage: str | None
    against: tuple[str, ...]

    def unlike(self, context: click.Context) -> None:
        """Refuse what only a search has, where a grid is asked for."""
        for name in ("trials", "prune", "within", "storage", "against"):
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name} is of a search (--search), and --over tries all of a grid")


@dataclass(frozen=True)
class Shown:
    """What is printed: all, the result, or that as JSON."""

    quiet: bool
    as_json: bool


@dataclass(frozen=True)
class Measured:
    """On which split and at which resolutions in pixels, on which device, shown as JSON or as a table.

    Of several resolutions the mean of the probabilities is measured.
    `others` are models that are asked besides; `mirror` and `shift` say how each image is looked at, None as
    the card does.
    `resize` is the side that images are brought to before they are cropped to the resolution.
    `resolutions` asks for one line at each of many, as "60:200:20", and `plot` names the file of their plot.
    """

    split: str
    others: tuple[str, ...]
    mirror: bool | None
    shift: int | None
    resolution: tuple[int, ...]
    resize: int | None
    resolutions: str | None
    plot: str | None
    device: str | None
    as_json: bool
    trust: bool


@dataclass(frozen=True)
class View:
    """How a ledger is shown: at which resolutions, how deep, against which budget, as JSON or as a table.

    `layers` asks for the layers in the order of execution, as torchsummary lists them, instead.
    """

    resolution: tuple[int, ...]
    depth: int | None
    budget: str | None
    layers: bool
    as_json: bool


@dataclass(frozen=True)
class Written:
    """How predictions are written: in which layout, classes by number or name, the `top` ones, and where to.

    `like` is a sample submission that says all of it, and `force` lets a file that is there be overwritten.
    """

    layout: str
    like: str | None
    indices: bool
    top: int
    out: str | None
    force: bool
    as_json: bool
    trust: bool


@dataclass(frozen=True)
class Predicting:
    """How images are asked about: which models besides, at which resolutions, how often each is looked at."""

    others: tuple[str, ...]
    resolution: tuple[int, ...]
    mirror: bool | None
    shift: int | None
    recipe: str | None
    skip: bool
    device: str | None

    def test(self, cards: "Sequence[Card]") -> "Test | None":
        """The looks at each image that are asked for, besides those of the models' cards; None for none."""
        from budgetnet.recipe import Test

        if self.mirror is None and self.shift is None:
            return None
        shift = max(card.shift for card in cards) if self.shift is None else self.shift
        mirror = any(card.mirror for card in cards) if self.mirror is None else self.mirror
        return Test(mirror=mirror, shift=shift)


@dataclass(frozen=True)
class Compared:
    """How runs are compared: with intervals, in which form; or on the images of a recipe that is named."""

    intervals: bool
    form: str
    paired: str | None
    split: str
    root: str | None
    out: str | None
    as_json: bool
    device: str | None


@dataclass(frozen=True)
class ExportForm:
    """What the file is to be: format, place, images at once, eight bits or not, its bytes and its arena."""

    to: str
    out: str | None
    batch: str | None
    int8: bool
    calibrate: str | None
    tolerate: float
    most: str | None
    ram: str | None


@dataclass(frozen=True)
class Photos:
    """How photos are to be looked at: their size, the folders of splits, the columns of a table of labels."""

    size: int | None
    shape: Literal["crop", "squash"]
    part: tuple[str, ...]
    images: str | None
    name: str | None
    label: tuple[str, ...]
    groups: str | None

    def columns(self, *, parts: bool) -> dict[str, Any]:
        """What `inspect` is told of a table; with `parts`, the one --part names a column of it."""
        label = self.label[0] if len(self.label) == 1 else list(self.label) or None
        part = self.part[0] if parts and self.part else None
        named = {"images": self.images, "name": self.name, "label": label, "part": part}
        return {**named, "groups": self.groups}

    def named(self) -> dict[str, str]:
        """The folders, or tables, of the splits, where they were named one by one. Raises ValueError."""
        pairs = [part.partition("=") for part in self.part]
        wrong = [part for part, (name, _, folder) in zip(self.part, pairs) if not (name and folder)]
        if wrong:
            raise ValueError(f"--part should be such as train=photos/a, not {wrong[0]}")
        return {name: folder for name, _, folder in pairs}
