"""Recipe and Phase: how a model learns, as plain values, checked when they are made; nothing runs here."""

from budgetnet.recipe.average import EMA as EMA
from budgetnet.recipe.backoff import BackOff as BackOff
from budgetnet.recipe.groups import Group as Group
from budgetnet.recipe.groups import Groups as Groups
from budgetnet.recipe.groups import covers as covers
from budgetnet.recipe.groups import optimizer_of as optimizer_of
from budgetnet.recipe.groups import set_rates as set_rates
from budgetnet.recipe.phase import Phase as Phase
from budgetnet.recipe.recipe import Recipe as Recipe
from budgetnet.recipe.resolution import Ramp as Ramp
from budgetnet.recipe.resolution import Resolution as Resolution
from budgetnet.recipe.stop import MONITORS as MONITORS
from budgetnet.recipe.stop import EarlyStop as EarlyStop
from budgetnet.recipe.testing import Test as Test
