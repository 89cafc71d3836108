"""Trainer: fit, epochs, evaluate, predict: the loop."""

from budgetnet.trainer.begin import Session as Session
from budgetnet.trainer.images import image_files as image_files
from budgetnet.trainer.measure import Evaluation as Evaluation
from budgetnet.trainer.measure import Prediction as Prediction
from budgetnet.trainer.memory import out_of_memory as out_of_memory
from budgetnet.trainer.space import check_out as check_out
from budgetnet.trainer.trainer import Trainer as Trainer
from budgetnet.trainer.training import NotFinite as NotFinite
from budgetnet.trainer.training import NotWritten as NotWritten
from budgetnet.trainer.training import TrainingFailed as TrainingFailed
