"""Together: several runs trained at once, each in a process of its own, as each would be alone."""

from budgetnet.together.crew import trained as trained
from budgetnet.together.job import FAILURE as FAILURE
from budgetnet.together.job import Job as Job
from budgetnet.together.room import Crowd as Crowd
from budgetnet.together.room import check_together as check_together
from budgetnet.together.room import crowd as crowd
