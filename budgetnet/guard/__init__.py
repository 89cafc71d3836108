"""What makes a figure other than it seems, as plain sentences; nothing is printed and nothing refused."""

from budgetnet.guard.again import again as again
from budgetnet.guard.again import mark as mark
from budgetnet.guard.alike import Alike as Alike
from budgetnet.guard.alike import look_alikes as look_alikes
from budgetnet.guard.before import before as before
from budgetnet.guard.epochs import after_epoch as after_epoch
from budgetnet.guard.epochs import unrecognised as unrecognised
from budgetnet.guard.runs import chained as chained
from budgetnet.guard.runs import flattered as flattered
from budgetnet.guard.runs import record_of as record_of
from budgetnet.guard.runs import selection as selection
from budgetnet.guard.seen import SEEN as SEEN
from budgetnet.guard.seen import image_hashes as image_hashes
from budgetnet.guard.seen import read_seen as read_seen
from budgetnet.guard.seen import trained_on as trained_on
from budgetnet.guard.seen import write_seen as write_seen
