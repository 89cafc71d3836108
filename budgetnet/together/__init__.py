"""Together: several runs trained at once, each in a process of its own, as each would be alone."""

from budgetnet.together.crew import trained as trained
from budgetnet.together.job import FAILED as FAILED
from budgetnet.together.job import FAILURE as FAILURE
from budgetnet.together.job import MISTAKE as MISTAKE
from budgetnet.together.job import NOT_FINITE as NOT_FINITE
from budgetnet.together.job import Job as Job
from budgetnet.together.job import kind_of as kind_of
from budgetnet.together.room import Crowd as Crowd
from budgetnet.together.room import Together as Together
from budgetnet.together.room import check_together as check_together
from budgetnet.together.room import crowd as crowd
from budgetnet.together.shared import shared_size as shared_size
