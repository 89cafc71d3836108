"""Sweep: a plan trained many times: with several seeds, and over a grid of settings chosen on validation."""

from budgetnet.sweep.grid import read_over as read_over
from budgetnet.sweep.repeat import Manner as Manner
from budgetnet.sweep.repeat import seeded as seeded
from budgetnet.sweep.repeat import seeds as seeds
from budgetnet.sweep.search import sweep as sweep
from budgetnet.sweep.trials import Metric as Metric
from budgetnet.sweep.trials import Sweep as Sweep
from budgetnet.sweep.trials import Trial as Trial

__all__ = ["Sweep", "Trial", "seeds", "sweep"]
