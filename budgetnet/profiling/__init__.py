"""Profiling: where the time of a training goes, measured on some of its own steps."""

from budgetnet.profiling.measure import profile as profile
from budgetnet.profiling.measure import traces as traces
from budgetnet.profiling.values import Operator as Operator
from budgetnet.profiling.values import Part as Part
from budgetnet.profiling.values import PhaseProfile as PhaseProfile
from budgetnet.profiling.values import Profile as Profile
