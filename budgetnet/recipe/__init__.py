"""Recipe and Phase: how a model learns, as plain values, checked when they are made; nothing runs here."""

from budgetnet.recipe.groups import Group as Group
from budgetnet.recipe.groups import Groups as Groups
from budgetnet.recipe.groups import covers as covers
from budgetnet.recipe.groups import optimizer_of as optimizer_of
from budgetnet.recipe.groups import set_rates as set_rates
from budgetnet.recipe.phase import EarlyStop as EarlyStop
from budgetnet.recipe.phase import Phase as Phase
from budgetnet.recipe.phase import Ramp as Ramp
from budgetnet.recipe.phase import Resolution as Resolution
from budgetnet.recipe.recipe import EMA as EMA
from budgetnet.recipe.recipe import BackOff as BackOff
from budgetnet.recipe.recipe import Recipe as Recipe
from budgetnet.recipe.recipe import defaults as defaults
from budgetnet.recipe.testing import Test as Test
from budgetnet.recipe.unlabelled import FixMatch as FixMatch
from budgetnet.recipe.unlabelled import PseudoLabels as PseudoLabels
