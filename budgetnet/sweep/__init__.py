"""Sweep: a plan trained many times, several runs at once: with other seeds, or other settings."""

from budgetnet.sweep.capacity import Together as Together
from budgetnet.sweep.cluster import Cluster as Cluster
from budgetnet.sweep.effort import PRUNES as PRUNES
from budgetnet.sweep.effort import Effort as Effort
from budgetnet.sweep.grid import read_over as read_over
from budgetnet.sweep.job import FAILURE as FAILURE
from budgetnet.sweep.job import MISTAKE as MISTAKE
from budgetnet.sweep.job import NOT_FINITE as NOT_FINITE
from budgetnet.sweep.outside import OutOfFold as OutOfFold
from budgetnet.sweep.outside import out_of_fold as out_of_fold
from budgetnet.sweep.over import sweep as sweep
from budgetnet.sweep.repeat import Manner as Manner
from budgetnet.sweep.repeat import seeded as seeded
from budgetnet.sweep.repeat import seeds as seeds
from budgetnet.sweep.search import search as search
from budgetnet.sweep.space import Between as Between
from budgetnet.sweep.space import read_search as read_search
from budgetnet.sweep.trials import Sweep as Sweep
from budgetnet.sweep.trials import Trial as Trial

__all__ = [
    "Between",
    "Cluster",
    "Effort",
    "OutOfFold",
    "Sweep",
    "Trial",
    "out_of_fold",
    "search",
    "seeds",
    "sweep",
]
