"""`python -m budgetnet`: the command, where its folder is not on the path."""

from budgetnet.cli import main

main(prog_name="budgetnet")
