"""The command line: `budgetnet run`, `count`, `evaluate`, `predict`, `list`, `copy` and `preview`."""

from budgetnet.cli.commands import main as main
