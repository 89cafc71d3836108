"""Options that several commands share, and what they ask of a recipe."""

import functools
import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from budgetnet.cli.failures import RECIPE, TYPED

if TYPE_CHECKING:
    from budgetnet.plan import Plan
    from budgetnet.trainer import Trainer

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Asked:
    """What the options ask of a recipe: first shortened by `scale`, then `settings`, then the `seed`.

    `recorded` settings were not typed now, but are those of a run's record.
    """

    root: str | None = None
    seed: int | None = None
    scale: float | None = None
    settings: tuple[str, ...] = ()
    recorded: bool = False

    def plan(self, name: str, *, before: Sequence[str] = ()) -> "Plan":
        """The plan in the file, or of the shipped recipe, `name`, with `before` and what is asked changed."""
        from budgetnet.cli.recorded import admit, path
        from budgetnet.plan import read_plan

        context = click.get_current_context()
        if self.root is not None:
            context.with_resource(environment("BUDGETNET_DATA", self.root))
        plan = read_plan(name)
        context.meta[RECIPE] = str(plan.path)
        typed = {path(text) for text in self.settings}
        admit(plan, [text for text in before if path(text) not in typed])
        admit(plan, self.settings if self.recorded else ())
        plan = _changed(plan, before)
        if self.scale is not None:
            plan = plan.scaled(self.scale)
        plan = _changed(plan, self.settings)
        return plan if self.seed is None else plan.changed(f"recipe.seed={self.seed}")

    def as_before(self, record: Mapping[str, Any]) -> "Asked":
        """What a run's record says was asked then, where nothing else is asked now."""
        settings = record.get("settings")
        before = tuple(s for s in settings if isinstance(s, str)) if isinstance(settings, list) else ()
        scale, seed = record.get("scale"), record.get("seed")
        return replace(
            self,
            scale=self.scale if self.scale is not None or not isinstance(scale, int | float) else scale,
            seed=self.seed if self.seed is not None or not isinstance(seed, int) else seed,
            settings=self.settings or before,
            recorded=not self.settings,
        )

    def record(self, plan: "Plan") -> dict[str, Any]:
        """What a run's record says of its recipe file, of what was changed in it, and of what was typed."""
        typed = click.get_current_context().meta.get(TYPED, [])
        command = shlex.join(["budgetnet", *(_portable(text) for text in typed)])
        asked = {"command": command, "scale": self.scale, "settings": list(self.settings)}
        return {**plan.record(), **asked}


def _portable(text: str) -> str:
    """What was typed, with paths as from here or from home: they may hold the user's name."""
    for folder, short in ((os.getcwd(), "."), (os.path.expanduser("~"), "~")):
        if len(folder) > 1:
            text = re.sub(rf"(^|[=:]){re.escape(folder)}(?=/|$)", rf"\1{short}", text)
    return text


def _changed(plan: "Plan", settings: Sequence[str]) -> "Plan":
    """The plan with these settings, in whichever order they are valid: resize=66 may need crop=64 first."""
    waiting, first = list(settings), None
    while waiting:
        refused = []
        for setting in waiting:
            try:
                plan = plan.changed(setting)
            except ValueError as error:
                refused.append(setting)
                first = first or error
        if len(refused) == len(waiting) and first is not None:
            raise first
        waiting, first = refused, None
    return plan


@contextmanager
def environment(name: str, found: str) -> Iterator[None]:
    """Within it the environment's variable `name` has the value `found`."""
    before = os.environ.get(name)
    os.environ[name] = found
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class Number(click.ParamType):  # type: ignore[type-arg]  # which older ones of click do not take
    """A number from `least` to `most`, whole unless `whole` is False; one sentence for anything else."""

    name = "number"

    def __init__(self, least: float, most: float, *, whole: bool = True) -> None:
        self.least, self.most, self.whole = least, most, whole

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What was typed as a number."""
        if isinstance(value, str):
            pattern = r"[+-]?[0-9]+" if self.whole else r"[+-]?([0-9]+\.?|[0-9]*\.[0-9]+)([eE][+-]?[0-9]+)?"
            text = value.strip()
            good = len(text) <= 40 and re.fullmatch(pattern, text) is not None
            value = (int(text) if self.whole else float(text)) if good else math.nan
            if not self.least <= value <= self.most:
                kind = "whole number" if self.whole else "number"
                given = text if len(text) <= 40 else f"{text[:40]}..."
                least, most = (f"{x:,}" if self.whole else f"{x:g}" for x in (self.least, self.most))
                self.fail(f"it should be a {kind} from {least} to {most}, not {given!r}", param, ctx)
        return value


PIXELS = Number(1, 65_536)
SEEDS = Number(1, 10_000)


@dataclass(frozen=True)
class Machine:
    """Where and how fast the options ask to train, and where runs are written."""

    out: str
    device: str | None
    precision: Literal["auto", "bf16", "float32"]
    speed: Literal["auto", "eager", "compile", "graphs"]

    def trainer(self, *, show: bool) -> "Trainer":
        """The trainer that was asked for."""
        from budgetnet.console import say
        from budgetnet.trainer import Trainer

        trainer = Trainer(self.device, precision=self.precision, speed=self.speed, out=self.out, show=show)
        trainer.aside = partial(say, error=True)
        return trainer


device_option = click.option(
    "--device", metavar="DEVICE", help="cuda, cuda:1 or cpu; by default the GPU where there is one."
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "float32"]),
    default="auto",
    show_default=True,
    help="auto: bf16 on CUDA, float32 on a CPU, where bf16 pays if the processor has it.",
)
speed_option = click.option(
    "--speed",
    type=click.Choice(["auto", "eager", "compile", "graphs"]),
    default="auto",
    show_default=True,
    help="auto: compiled on CUDA where the training is long enough for it to pay, else eager.",
)
data_option = click.option(
    "--data",
    "root",
    metavar="ROOT",
    help="The folder that holds data sets; default BUDGETNET_DATA or ./data.",
)
set_option = click.option(
    "--set",
    "settings",
    metavar="PATH=VALUE",
    multiple=True,
    help="Change one value: recipe.batch_size=256, recipe.phases.0.lr=0.05, data.held_out=500. Repeatable.",
)
scale_option = click.option(
    "--scale",
    type=Number(1e-9, 1e9, whole=False),
    metavar="FACTOR",
    help="Shorten the whole recipe in proportion: 0.05 is a twentieth.",
)


def _number_or_auto(context: click.Context, option: click.Parameter, value: str) -> int | str:
    if value == "auto":
        return value
    return int(Number(1, 1000).convert(value, option, context))


together_option = click.option(
    "--together",
    callback=_number_or_auto,
    default="auto",
    show_default=True,
    metavar="K",
    help="Train so many runs at once, in processes; auto: a run a thread on a CPU, up to 8 on a GPU.",
)
seed_option = click.option("--seed", type=Number(0, 2**63 - 1), help="The recipe's seed.")


def out_option(default: str, help: str) -> Callable[[Command], Command]:
    """Where a command writes its folder."""
    return click.option("--out", default=default, show_default=True, metavar="DIR", help=help)


def training_on(help: str) -> Callable[[Command], Command]:
    """Give a command the options of a Machine, collected into its parameter `machine`; `help` is of --out."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def collected(*args: Any, out: str, device: Any, precision: Any, speed: Any, **kwargs: Any) -> Any:
            return command(*args, machine=Machine(out, device, precision, speed), **kwargs)

        wrapped: Any = collected
        for option in (speed_option, precision_option, device_option, out_option("runs", help)):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return decorate


def asking(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Give a command these of the shared options, collected into its parameter `asked`."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def collected(
            *args: Any,
            root: str | None = None,
            seed: int | None = None,
            scale: float | None = None,
            settings: tuple[str, ...] = (),
            **kwargs: Any,
        ) -> Any:
            return command(*args, asked=Asked(root, seed, scale, settings), **kwargs)

        wrapped: Any = collected
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return decorate
