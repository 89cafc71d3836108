"""Trainer: fit, epochs, evaluate, predict: the folders, screens and people round an engine."""

from budgetnet.engine import Evaluation as Evaluation
from budgetnet.engine import NotFinite as NotFinite
from budgetnet.engine import NotWritten as NotWritten
from budgetnet.engine import Prediction as Prediction
from budgetnet.engine import TrainingFailed as TrainingFailed
from budgetnet.engine import TrainingStep as TrainingStep
from budgetnet.engine import out_of_memory as out_of_memory
from budgetnet.trainer.begin import Session as Session
from budgetnet.trainer.chain import unfinished as unfinished
from budgetnet.trainer.images import Images as Images
from budgetnet.trainer.images import gather as gather
from budgetnet.trainer.images import image_files as image_files
from budgetnet.trainer.images import measured as measured
from budgetnet.trainer.planned import planned_before as planned_before
from budgetnet.trainer.planned import takes as takes
from budgetnet.trainer.saver import ENDING as ENDING
from budgetnet.trainer.saver import Handler as Handler
from budgetnet.trainer.saver import heeding as heeding
from budgetnet.trainer.space import check_out as check_out
from budgetnet.trainer.tensorboard import TensorBoard as TensorBoard
from budgetnet.trainer.trainer import Trainer as Trainer
from budgetnet.trainer.watch import Channel as Channel
from budgetnet.trainer.watch import EndTraining as EndTraining
from budgetnet.trainer.watch import PerRun as PerRun
from budgetnet.trainer.watch import Watcher as Watcher
from budgetnet.trainer.watch import every as every
