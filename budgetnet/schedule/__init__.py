"""Schedules: values as closed-form functions of a phase's progress, or of its history; nothing is stored.

A schedule is a number, any callable `t -> value` with t in [0, 1), or one of the classes below. Durations
are in epochs of the phase, counted from its first step. Two kinds are told apart by one method each:
`over(epochs)` binds durations to the length of a phase, `of(history)` reads the epochs so far.
"""

from budgetnet.schedule.history import MONITORS as MONITORS
from budgetnet.schedule.history import Flat as Flat
from budgetnet.schedule.history import Plateau as Plateau
from budgetnet.schedule.history import acts as acts
from budgetnet.schedule.history import check_monitor as check_monitor
from budgetnet.schedule.history import monitors as monitors
from budgetnet.schedule.history import rises as rises
from budgetnet.schedule.kinds import Curve as Curve
from budgetnet.schedule.kinds import Measured as Measured
from budgetnet.schedule.kinds import Reactive as Reactive
from budgetnet.schedule.kinds import Schedule as Schedule
from budgetnet.schedule.kinds import Stopping as Stopping
from budgetnet.schedule.kinds import Stretching as Stretching
from budgetnet.schedule.kinds import Timed as Timed
from budgetnet.schedule.kinds import curve as curve
from budgetnet.schedule.kinds import is_schedule as is_schedule
from budgetnet.schedule.kinds import stretched as stretched
from budgetnet.schedule.kinds import value as value
from budgetnet.schedule.progress import Cosine as Cosine
from budgetnet.schedule.progress import Early as Early
from budgetnet.schedule.progress import Linear as Linear
from budgetnet.schedule.progress import MultiStep as MultiStep
from budgetnet.schedule.progress import OneCycle as OneCycle
from budgetnet.schedule.progress import Restarts as Restarts
from budgetnet.schedule.progress import Step as Step
from budgetnet.schedule.progress import Triangular as Triangular
from budgetnet.schedule.progress import Warmup as Warmup
