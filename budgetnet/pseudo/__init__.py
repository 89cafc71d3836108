"""Pseudo-labels: labels that a model gives to unlabelled images, as values for a phase and as functions."""

from budgetnet.pseudo.joining import apart as apart
from budgetnet.pseudo.joining import join as join
from budgetnet.pseudo.keeping import Kept as Kept
from budgetnet.pseudo.keeping import fixmatch_loss as fixmatch_loss
from budgetnet.pseudo.keeping import keep as keep
from budgetnet.pseudo.keeping import sharpen as sharpen
from budgetnet.pseudo.listing import read_csv as read_csv
from budgetnet.pseudo.listing import write_csv as write_csv
