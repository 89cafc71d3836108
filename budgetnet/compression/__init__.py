"""Compression: a trained network into a file of so many bytes, by fewer bits and channels and a teacher."""

from budgetnet.compression.prune import shrink as shrink
from budgetnet.compression.smaller import Compressed as Compressed
from budgetnet.compression.smaller import Goal as Goal
from budgetnet.compression.smaller import Size as Size
from budgetnet.compression.smaller import compress as compress
from budgetnet.compression.smaller import compressed as compressed
from budgetnet.compression.smaller import finetuning as finetuning
