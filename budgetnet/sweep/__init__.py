"""Sweep: a plan trained many times, several runs at once: with other seeds, or over a grid of settings."""

from budgetnet.sweep.capacity import Together as Together
from budgetnet.sweep.grid import read_over as read_over
from budgetnet.sweep.job import FAILURE as FAILURE
from budgetnet.sweep.job import MISTAKE as MISTAKE
from budgetnet.sweep.job import NOT_FINITE as NOT_FINITE
from budgetnet.sweep.outside import OutOfFold as OutOfFold
from budgetnet.sweep.outside import out_of_fold as out_of_fold
from budgetnet.sweep.repeat import Manner as Manner
from budgetnet.sweep.repeat import seeded as seeded
from budgetnet.sweep.repeat import seeds as seeds
from budgetnet.sweep.search import sweep as sweep
from budgetnet.sweep.trials import Sweep as Sweep
from budgetnet.sweep.trials import Trial as Trial

__all__ = ["OutOfFold", "Sweep", "Trial", "out_of_fold", "seeds", "sweep"]
