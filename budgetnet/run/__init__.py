"""Run and Epoch: what happened in a training, in memory and in its folder, and how fast it went."""

from budgetnet.run.curves import borders as borders
from budgetnet.run.curves import curves as curves
from budgetnet.run.curves import points as points
from budgetnet.run.epoch import Epoch as Epoch
from budgetnet.run.epoch import Note as Note
from budgetnet.run.pace import Pace as Pace
from budgetnet.run.pace import images_per_second as images_per_second
from budgetnet.run.pace import pace as pace
from budgetnet.run.record import beyond as beyond
from budgetnet.run.run import EARLY as EARLY
from budgetnet.run.run import LONGEST_RECORD as LONGEST_RECORD
from budgetnet.run.run import METRICS as METRICS
from budgetnet.run.run import MODEL as MODEL
from budgetnet.run.run import RECORD as RECORD
from budgetnet.run.run import UNFINISHED as UNFINISHED
from budgetnet.run.run import Run as Run
