"""Failures as the command line tells them: a sentence on stderr, an exit code, no traceback unasked."""

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

RECIPE = "budgetnet.recipe"
"""The key of the context's `meta` under which the path of the recipe in use lies."""

FAILED, MISTAKEN, SKIPPED, NOT_FINITE, PAUSED, INTERRUPTED = 1, 2, 3, 4, 75, 130


class Commands(click.Group):
    """A group of commands whose errors become exit codes.

    0 for what went well, 1 for a failed run, 2 for a mistake in what was typed or in the recipe, 3 for
    predictions without the images that cannot be read, 4 for a number that became NaN or infinite, 75 at the
    time limit, 130 after Ctrl-C. With BUDGETNET_TRACEBACK set, errors are raised as they are.
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
        try:
            code = inner(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            code = INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
            return found
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            _hush()
            ctx.exit(FAILED)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:
            if os.environ.get("BUDGETNET_TRACEBACK"):
                raise
            code, sentence = verdict(error, ctx.meta.get(RECIPE))
            # Whoever raised something worth telling has imported what the console needs.
            from budgetnet.console import harmless

            click.echo(f"Error: {harmless(sentence)}", err=True)
            ctx.exit(code)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names. A mistyped one is told its neighbour."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.commands, n=1)
            if args[0].endswith(".py"):
                near = [f"run {args[0]}"]
            hint = f" Did you mean 'budgetnet {near[0]}'?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of their definition."""
        return list(self.commands)


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
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == recipe]
    if lines:
        return MISTAKEN, f"{recipe}, line {lines[-1]}: {told} (BUDGETNET_TRACEBACK=1 shows more)"
    return FAILED, f"{told}; this is a bug of budgetnet; set BUDGETNET_TRACEBACK=1 to see where"


def _hush() -> None:
    """Send what is still to be written nowhere: nobody reads it, and the interpreter would complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
