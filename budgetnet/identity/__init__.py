"""Identity: what a value computes by, as plain JSON that is equal only where the value computes the same."""

from budgetnet.identity.code import UNKNOWN as UNKNOWN
from budgetnet.identity.code import without_rooms as without_rooms
from budgetnet.identity.code import without_unknown as without_unknown
from budgetnet.identity.source import commit as commit
from budgetnet.identity.source import digests as digests
from budgetnet.identity.source import sources as sources
from budgetnet.identity.value import UNSAID as UNSAID
from budgetnet.identity.value import Named as Named
from budgetnet.identity.value import described_value as described_value
from budgetnet.identity.value import file_mark as file_mark
from budgetnet.identity.value import mark as mark
from budgetnet.identity.value import modules_of as modules_of
from budgetnet.identity.value import said as said
from budgetnet.identity.value import told as told
from budgetnet.identity.value import without_addresses as without_addresses
from budgetnet.identity.whose import RECIPE_FILE as RECIPE_FILE

DESCRIBED = 2
"""The kind of description that records hold: before there was a number, none told code and attributes."""
