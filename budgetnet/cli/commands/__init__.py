"""The `budgetnet` command: each file here is one command, `command` in it, named as the file.

`--help` should answer at once, so no file here imports torch or rich at its top.
"""

from importlib import import_module
from pkgutil import iter_modules

import click

import budgetnet
from budgetnet.cli.failures import Commands
from budgetnet.cli.options import spoken

_FIRST = "run sweep count evaluate predict compress export check compare report list copy preview profile"
"""The order of the help; what is not named here comes last."""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(budgetnet.__version__, prog_name="budgetnet", message="%(prog)s %(version)s")
def main() -> None:
    """Train small image classifiers from scratch under a hard budget.

    Begin with `budgetnet run quickstart`, or with `budgetnet list`.

    Exit codes: 0, 1 for a failed run, 2 for a mistake in the command or the recipe, 3 for predictions
    without the images that cannot be read, 4 for a NaN or infinity in training, 75 at the time limit, 130
    after Ctrl-C, 128 and its number after another signal (SIGTERM: 143).
    """


_FILES = [module.name for module in iter_modules(__path__)]
for _name in sorted(_FILES, key=f"{_FIRST} {_FILES}".index):
    main.add_command(spoken(import_module(f"{__name__}.{_name}").command), _name)
