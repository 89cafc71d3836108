"""Files: written whole or not at all, by one owner at a time; tensors that show when they are damaged."""

from budgetnet.files import checkpoint as checkpoint
from budgetnet.files.checkpoint import BadCheckpoint as BadCheckpoint
from budgetnet.files.checkpoint import Checkpoint as Checkpoint
from budgetnet.files.disk import append as append
from budgetnet.files.disk import check_name as check_name
from budgetnet.files.disk import check_place as check_place
from budgetnet.files.disk import check_writable as check_writable
from budgetnet.files.disk import discard as discard
from budgetnet.files.disk import folders_of as folders_of
from budgetnet.files.disk import free_bytes as free_bytes
from budgetnet.files.disk import new_folder as new_folder
from budgetnet.files.disk import read_whole as read_whole
from budgetnet.files.disk import reason as reason
from budgetnet.files.disk import unwritable as unwritable
from budgetnet.files.disk import write_whole as write_whole
from budgetnet.files.lock import LOCK as LOCK
from budgetnet.files.lock import is_locked as is_locked
from budgetnet.files.lock import locked as locked
from budgetnet.files.sealed import MOST_TENSORS as MOST_TENSORS
from budgetnet.files.sealed import Damaged as Damaged
from budgetnet.files.sealed import Stored as Stored
from budgetnet.files.sealed import apart as apart
from budgetnet.files.sealed import metadata as metadata
from budgetnet.files.sealed import read_sealed as read_sealed
from budgetnet.files.sealed import seal as seal
