"""Process: this program's version, what comes along and is imported, its launchers, system, and output."""

from budgetnet.process.imported import beside as beside
from budgetnet.process.launch import Launch as Launch
from budgetnet.process.launch import check_launch as check_launch
from budgetnet.process.launch import launched as launched
from budgetnet.process.output import Steadfast as Steadfast
from budgetnet.process.output import fill_closed as fill_closed
from budgetnet.process.output import steadfast as steadfast
from budgetnet.process.output import steadfast_output as steadfast_output
from budgetnet.process.program import VERSION as VERSION
from budgetnet.process.program import shipped as shipped
from budgetnet.process.system import cores as cores
from budgetnet.process.system import data_limit as data_limit
from budgetnet.process.system import flags as flags
from budgetnet.process.system import lock as lock
from budgetnet.process.system import peak_memory as peak_memory
from budgetnet.process.system import read_at as read_at
from budgetnet.process.system import signals as signals
from budgetnet.process.system import unused_memory as unused_memory
