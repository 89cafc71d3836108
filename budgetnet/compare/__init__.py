"""Compare: runs beside one another: what differs between them, and their figures with their spread."""

from budgetnet.compare.comparison import Comparison as Comparison
from budgetnet.compare.comparison import Contrast as Contrast
from budgetnet.compare.comparison import compare as compare
from budgetnet.compare.difference import MISSING as MISSING
from budgetnet.compare.difference import Difference as Difference
from budgetnet.compare.difference import differences as differences
from budgetnet.compare.figure import Figure as Figure
from budgetnet.compare.figure import measured as measured
from budgetnet.compare.group import Group as Group
from budgetnet.compare.group import grouped as grouped
from budgetnet.compare.group import read_runs as read_runs

__all__ = ["Comparison", "compare", "grouped"]
