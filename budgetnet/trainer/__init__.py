"""Trainer: fit, epochs, evaluate, predict: the loop."""

from budgetnet.trainer.loop import TrainingFailed as TrainingFailed
from budgetnet.trainer.measure import Evaluation as Evaluation
from budgetnet.trainer.measure import Prediction as Prediction
from budgetnet.trainer.trainer import Trainer as Trainer
