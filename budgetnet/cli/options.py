"""Options that several commands share."""

import functools
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from budgetnet.cli.complete import models, recipes
from budgetnet.text import seconds

if TYPE_CHECKING:
    pass

Option: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
"""What gives a command an option."""


@contextmanager
def importing() -> Iterator[None]:
    """Within it no garbage is looked for: an import makes none, and the search takes a fifth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def environment(name: str, setting: str) -> Iterator[None]:
    """Within it the environment's variable `name` has the value `setting`."""
    before = os.environ.get(name)
    os.environ[name] = setting
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def idle(why: str, *names: str) -> None:
    """Refuse those of these options, such as "--set", that were typed: here nothing would come of them.

    Raises UsageError with `why`.
    """
    context = click.get_current_context()
    typed = [
        name
        for option in context.command.params
        for name in (*option.opts, *option.secondary_opts)
        if name in names
        and option.name is not None
        and context.get_parameter_source(option.name) is click.core.ParameterSource.COMMANDLINE
    ]
    if typed:
        raise click.UsageError(f"{', '.join(typed)} would do nothing: {why}")


def spoken(command: click.Command) -> click.Command:
    """The command with -q, where it has none of its own, and -v: what is said beside its output."""
    named = {name for option in command.params for name in option.opts}
    if "-q" not in named:
        help = "Print no notes and no progress on standard error."
        command.params.append(_switch("-q", "--quiet", "BUDGETNET_QUIET", help))
    command.params.append(
        _switch("-v", "--verbose", "BUDGETNET_TRACEBACK", "Show where an error comes from, by a traceback.")
    )
    return command


def _switch(short: str, long: str, variable: str, help: str) -> click.Option:
    def turn_on(context: click.Context, option: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:
            # Until the whole command is over: the error is told after its own context.
            context.find_root().with_resource(environment(variable, "1"))

    return click.Option([short, long], is_flag=True, expose_value=False, callback=turn_on, help=help)


PIXELS = click.IntRange(1, 65_536)
SEEDS = click.IntRange(1, 10_000)


recipe_argument = click.argument("recipe", metavar="FILE|NAME", shell_complete=recipes)
images_argument = click.argument("recipe", metavar="RECIPE", required=False, shell_complete=recipes)
model_argument = click.argument("target", metavar="RUN|MODEL", shell_complete=models)
others_option = click.option(
    "--with",
    "others",
    multiple=True,
    metavar="RUN|MODEL",
    shell_complete=models,
    help="Ask this model too: the mean of all probabilities counts. Repeatable.",
)
mean_resolution_option = click.option(
    "--resolution",
    type=PIXELS,
    multiple=True,
    metavar="PIXELS",
    help="By default the model's own; the mean of several. Repeatable.",
)
looks_options = (
    click.option(
        "--mirror/--no-mirror",
        default=None,
        help="Look at the mirror image too, and average, or not; by default as the model was tested.",
    ),
    click.option(
        "--shift",
        type=click.IntRange(0, 1000),
        metavar="PIXELS",
        help="Look at the image shifted by so many pixels too, up and left, and down and right.",
    ),
)
licence_option = click.option(
    "--licence", metavar="NAME", default="", help="Such as apache-2.0; stated in the card as it is given."
)
device_option = click.option(
    "--device", metavar="DEVICE", help="cuda, cuda:1, mps or cpu; by default CUDA where there is such a GPU."
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
sync_option = click.option(
    "--sync-batchnorm",
    is_flag=True,
    help="Where torchrun started several processes: batch norms see the whole batch, not a share of it.",
)
data_option = click.option(
    "--data",
    "root",
    metavar="ROOT",
    help="The folder that holds data sets; default BUDGETNET_DATA or ./data.",
)
budget_option = click.option(
    "--budget",
    metavar="AMOUNTS",
    help='What the model may have, such as 2M or "bytes=300KB, ram=256KB, resolution=64": --set '
    "model.budget=2M, for recipes with model(budget=).",
)
set_option = click.option(
    "--set",
    "settings",
    metavar="PATH=VALUE",
    multiple=True,
    help="Change one value: recipe.batch_size=256, recipe.phases.0.lr=0.05, data.held_out=500. Repeatable.",
)
trust_option = click.option(
    "--trust", is_flag=True, help="MODEL is a .pt2 file, a program for torch, of somebody whom you trust."
)
folds_option = click.option(
    "--folds",
    type=click.IntRange(2, 1000),
    metavar="K",
    help="Train K runs, each with another K-th of the images held out, and write the out-of-fold "
    "predictions; with --seeds so many of each.",
)
scale_option = click.option(
    "--scale",
    type=click.FloatRange(1e-9, 1e9),
    metavar="FACTOR",
    help="Shorten the whole recipe in proportion: 0.05 is a twentieth.",
)


def _number_or_auto(context: click.Context, option: click.Parameter, value: Any) -> int | str:
    return "auto" if value == "auto" else int(click.IntRange(1, 1000).convert(value, option, context))


_together = click.option(
    "--together",
    callback=_number_or_auto,
    default="auto",
    show_default=True,
    metavar="K",
    help="Train so many runs at once, in processes; auto: a run a thread on a CPU, up to 8 on a GPU.",
)
where_options = (
    _together,
    click.option(
        "--on",
        metavar="RAY",
        help="Train them as tasks of Ray instead: ray (on this machine), or ray://HOST. Needs ray.",
    ),
    click.option(
        "--cpus-per-trial",
        type=click.FloatRange(0.01, 4096),
        default=1.0,
        show_default=True,
        metavar="C",
        help="With --on: the processors, and threads, of each.",
    ),
    click.option(
        "--gpus-per-trial",
        type=click.FloatRange(0.01, 64),
        metavar="G",
        help="With --on: the GPUs of each, which may be a fraction (0.25); none by default.",
    ),
)


def _time(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """A time as it was typed. Raises UsageError for what is none."""
    try:
        seconds(value, option.opts[0])
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return value


def within_option(help: str) -> Option:
    """In which time a command is to end."""
    return click.option("--within", metavar="TIME", callback=_time, help=help)


max_time_option = click.option(
    "--max-time",
    metavar="TIME",
    callback=_time,
    help="End the session at a step's end after so long (11h30m, 90s), exit with 75; --resume goes on.",
)
resume_option = click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[RUN]",
    help="Go on with an unfinished run exactly: RUN, or the newest of this name; or begin it.",
)
recipe_option = click.option(
    "--recipe", help="The recipe file whose model() builds a model that budgetnet cannot by itself."
)
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), metavar="N", help="The recipe's seed."
)


def out_option(default: str, help: str) -> Option:
    """Where a command writes its folder."""
    return click.option("--out", default=default, show_default=True, metavar="DIR", help=help)


def json_option(help: str) -> Option:
    """Whether a command prints JSON."""
    return click.option("--json", "as_json", is_flag=True, help=help)


def machine_options(help: str) -> tuple[Option, ...]:
    """The options of a Machine; `help` is that of --out."""
    return out_option("runs", help), device_option, precision_option, speed_option


def gathered(name: str, into: type, *options: Option) -> Option:
    """Give a command these options, gathered into its parameter `name`, a value of the dataclass `into`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(*args: Any, **kwargs: Any) -> Any:
            values = {each.name: kwargs.pop(each.name) for each in fields(into) if each.name in own}
            return command(*args, **{name: into(**values)}, **kwargs)

        before = len(getattr(command, "__click_params__", ()))
        for option in reversed(options):
            option(called)
        own = {each.name for each in called.__click_params__[before:]}  # type: ignore[attr-defined]
        return called

    return decorate
