"""Identity: what a value computes by, as plain JSON that is equal only where the value computes the same."""

from budgetnet.identity.code import UNKNOWN as UNKNOWN
from budgetnet.identity.code import without_unknown as without_unknown
from budgetnet.identity.told import told as told
from budgetnet.identity.value import described_value as described_value
from budgetnet.identity.value import modules_of as modules_of
from budgetnet.identity.value import without_addresses as without_addresses
from budgetnet.identity.whose import RECIPE_FILE as RECIPE_FILE

DESCRIBED = 2
"""The kind of description that records hold: before there was a number, none told code and attributes."""
