"""The `budgetnet` command and, in the order of its help, the commands in it.

Each imports what does its work when it is called: `--help` should answer at once, so nothing here imports
torch or rich at the top.
"""

import click

import budgetnet
from budgetnet.cli.commands.beforehand import check, copy, count, list_, preview
from budgetnet.cli.commands.profiling import profile
from budgetnet.cli.commands.trained import compare, evaluate, predict
from budgetnet.cli.commands.training import run, sweep
from budgetnet.cli.failures import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(budgetnet.__version__, prog_name="budgetnet", message="%(prog)s %(version)s")
def main() -> None:
    """Train small image classifiers from scratch under a hard budget.

    Begin with `budgetnet run quickstart`, or with `budgetnet list`.

    Exit codes: 0, 1 for a failed run, 2 for a mistake in the command or the recipe, 3 for predictions
    without the images that cannot be read, 4 for a NaN or infinity in training, 75 at the time limit, 130
    after Ctrl-C, 128 and its number after another signal (SIGTERM: 143).
    """


for command in (run, sweep, count, evaluate, predict, check, compare, list_, copy, preview, profile):
    main.add_command(command)
