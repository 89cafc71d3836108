"""Failures as the command line tells them: a sentence on stderr, an exit code, no traceback unasked."""

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from budgetnet.process import Steadfast, check_launch, fill_closed, launched, steadfast_output

RECIPE = "budgetnet.recipe"
"""The key of the context's `meta` under which the path of the recipe in use lies."""
TRAINING = ("compress", "run", "sweep")
"""The commands whose work is not what they print."""

READING = ("compare", "completion", "count", "doctor", "list")
"""The commands that only look, and so may run in each of several processes."""

TOGETHER = ("run",)
"""The commands that the processes of torchrun may work on together."""

TYPED = "budgetnet.typed"
"""The key under which all that was typed lies there."""

LONGEST = 400
"""Letters of what is said about something mistyped, which may be long."""
FAILED, MISTAKEN, SKIPPED, NOT_FINITE, PAUSED, INTERRUPTED = 1, 2, 3, 4, 75, 130


class Commands(click.Group):
    """A group of commands whose errors become exit codes.

    0 for what went well, 1 for a failed run, 2 for a mistake in what was typed or in the recipe, 3 for
    predictions without the images that cannot be read, 4 for a number that became NaN or infinite, 75 at the
    time limit, 130 after Ctrl-C. With BUDGETNET_TRACEBACK set, the traceback is shown too. What cannot be
    printed fails a command, but for those that train.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Read what was typed, run it and exit; after Ctrl-C with 130 wherever it comes."""
        inner: Any = super().main
        if not standalone_mode:
            return inner(args, prog_name, complete_var, standalone_mode=False, **extra)
        fill_closed()
        with steadfast_output() as (shown, _):
            try:
                code = inner(args, prog_name, complete_var, standalone_mode=False, **extra)
            except click.ClickException as error:
                if len(error.message) > LONGEST:
                    vars(error)["message"] = f"{error.message[:LONGEST]} ..."
                with suppress(OSError):
                    error.show()
                code = error.exit_code
            except (click.Abort, KeyboardInterrupt):
                code = INTERRUPTED
        failed = shown.failed is not None and not code
        sys.exit(FAILED if failed else code if isinstance(code, int) else 0)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read what was typed, and keep it for records."""
        ctx.meta[TYPED] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            result = super().invoke(ctx)
            _look_at_output(ctx.invoked_subcommand in TRAINING)
            return result
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # Of standard output: nothing else of ours is a pipe.
            ctx.exit(FAILED)
        except KeyboardInterrupt:
            _tell("stopped")
            ctx.exit(INTERRUPTED)
        except Exception as error:
            if os.environ.get("BUDGETNET_TRACEBACK"):
                _tell("".join(traceback.format_exception(error)).rstrip())
            code, sentence = verdict(error, ctx.meta.get(RECIPE))
            # Whoever raised something worth telling has imported what the console needs.
            from budgetnet.text import harmless

            _tell(f"Error: {harmless(sentence)}")
            ctx.exit(code)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names. A mistyped one is told its neighbour.

        Raises ValueError where this process is one of several that are to train one run.
        """
        if ctx.resilient_parsing:  # a shell asks for what may follow
            return super().resolve_command(ctx, args)
        if not {"-h", "--help"} & set(args):
            if args[0] not in READING and not (args[0] in TOGETHER and launched() is not None):
                check_launch()
            try:
                os.getcwd()
            except FileNotFoundError:
                # Libraries that are loaded from here on would end the process without a word that helps.
                raise click.UsageError("the working directory is gone: change to another (cd)") from None
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.commands, n=1)
            if args[0].endswith(".py"):
                near = [f"run {args[0]}"]
            hint = f" Did you mean 'budgetnet {near[0]}'?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx=ctx)
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _check_once(click.Context(command, ctx, info_name=name), rest)
        return name, command, rest

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of their definition."""
        return list(self.commands)


def _check_once(ctx: click.Context, args: list[str]) -> None:
    """Refuse an option given twice that takes one value: click would keep the last without a word."""
    _, _, typed = ctx.command.make_parser(ctx).parse_args(list(args))
    if any(option.is_eager for option in typed):  # help is asked for
        return
    for option in typed:
        if not isinstance(option, click.Option) or option.multiple or option.count:
            continue
        names = "/".join([*option.opts[-1:], *option.secondary_opts])
        one_sided = option.is_flag and not option.secondary_opts  # what it says twice is the same
        if typed.count(option) > 1 and not one_sided:
            raise click.UsageError(f"{names} should be given once, not {typed.count(option)} times", ctx=ctx)


def verdict(error: Exception, recipe: str | None = None) -> tuple[int, str]:
    """The exit code and the sentence for an error, met while the recipe in the file `recipe` was in use."""
    # Whoever raised one of them has imported torch already.
    from budgetnet.data import Unavailable
    from budgetnet.trainer import NotFinite, TrainingFailed, out_of_memory

    text = " ".join(str(error).split())
    if isinstance(error, NotFinite):
        return NOT_FINITE, text
    if isinstance(error, Unavailable | TrainingFailed):
        return FAILED, text
    if isinstance(error, ValueError):
        return MISTAKEN, text or type(error).__name__
    if out_of_memory(error):
        return FAILED, f"the memory is not enough: lower the batch size, --set recipe.batch_size=64 ({text})"
    if isinstance(error, OSError):
        return FAILED, text
    sentence = f"{type(error).__name__}: {text}" if text else type(error).__name__
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == recipe]
    if lines:
        return MISTAKEN, f"{recipe}, line {lines[-1]}: {sentence} (BUDGETNET_TRACEBACK=1 shows more)"
    return FAILED, f"{sentence}; this is a bug of budgetnet; set BUDGETNET_TRACEBACK=1 to see where"


def _tell(text: str) -> None:
    """Print a line on standard error, if it takes one."""
    with suppress(OSError):
        click.echo(text, err=True)


def _look_at_output(training: bool) -> None:
    """Raise what kept a command's output from being written; of one that trained only a note is left."""
    if sys.stdout is None:
        return
    sys.stdout.flush()
    if not isinstance(sys.stdout, Steadfast) or sys.stdout.failed is None:
        return
    failed = sys.stdout.failed
    if not training:
        raise failed
    sys.stdout.failed = None
    if not isinstance(failed, BrokenPipeError):
        why = (failed.strerror if isinstance(failed, OSError) else None) or str(failed)
        _tell(f"note: some of what was to be shown could not be written to standard output: {why}")
