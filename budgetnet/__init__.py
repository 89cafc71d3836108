"""Train small image classifiers from scratch under a hard budget: the public names, imported when used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from budgetnet.process import VERSION

if TYPE_CHECKING:
    from budgetnet import compare as compare
    from budgetnet import layers as layers
    from budgetnet import metrics as metrics
    from budgetnet import models as models
    from budgetnet import sweep as sweep
    from budgetnet.augment import AlternatingFlip as AlternatingFlip
    from budgetnet.augment import CenterCrop as CenterCrop
    from budgetnet.augment import Crop as Crop
    from budgetnet.augment import Cutmix as Cutmix
    from budgetnet.augment import Erase as Erase
    from budgetnet.augment import Flip as Flip
    from budgetnet.augment import Grayscale as Grayscale
    from budgetnet.augment import Jitter as Jitter
    from budgetnet.augment import Mixup as Mixup
    from budgetnet.augment import RandAugment as RandAugment
    from budgetnet.augment import Rotate as Rotate
    from budgetnet.augment import Shift as Shift
    from budgetnet.augment import Translate as Translate
    from budgetnet.augment import TrivialAugmentWide as TrivialAugmentWide
    from budgetnet.budget import Budget as Budget
    from budgetnet.budget import DoesNotFit as DoesNotFit
    from budgetnet.budget import Ledger as Ledger
    from budgetnet.budget import OverBudget as OverBudget
    from budgetnet.budget import check_fit as check_fit
    from budgetnet.budget import count as count
    from budgetnet.budget import ledger as ledger
    from budgetnet.budget import macs as macs
    from budgetnet.budget import summary as summary
    from budgetnet.compression import compress as compress
    from budgetnet.data import Data as Data
    from budgetnet.data import Split as Split
    from budgetnet.data import arrays as arrays
    from budgetnet.data import cifar10 as cifar10
    from budgetnet.data import dataset as dataset
    from budgetnet.data import digits as digits
    from budgetnet.data import folder as folder
    from budgetnet.data import stl10 as stl10
    from budgetnet.data import table as table
    from budgetnet.data import tiny_imagenet as tiny_imagenet
    from budgetnet.distill import Distill as Distill
    from budgetnet.exporting import Exported as Exported
    from budgetnet.exporting import Int8 as Int8
    from budgetnet.exporting import Pushed as Pushed
    from budgetnet.exporting import export as export
    from budgetnet.exporting import model_card as model_card
    from budgetnet.exporting import push as push
    from budgetnet.exporting import read_export as read_export
    from budgetnet.layers import Quantised as Quantised
    from budgetnet.loss import DistillationLoss as DistillationLoss
    from budgetnet.loss import LabelSmoothingLoss as LabelSmoothingLoss
    from budgetnet.modelfile import load as load
    from budgetnet.modelfile import save as save
    from budgetnet.optim import SGD as SGD
    from budgetnet.optim import Adam as Adam
    from budgetnet.optim import AdamW as AdamW
    from budgetnet.optim import Muon as Muon
    from budgetnet.plan import read_plan as read_plan
    from budgetnet.profiling import Profile as Profile
    from budgetnet.profiling import profile as profile
    from budgetnet.recipe import EMA as EMA
    from budgetnet.recipe import BackOff as BackOff
    from budgetnet.recipe import EarlyStop as EarlyStop
    from budgetnet.recipe import FixMatch as FixMatch
    from budgetnet.recipe import Group as Group
    from budgetnet.recipe import Groups as Groups
    from budgetnet.recipe import Phase as Phase
    from budgetnet.recipe import PseudoLabels as PseudoLabels
    from budgetnet.recipe import Ramp as Ramp
    from budgetnet.recipe import Recipe as Recipe
    from budgetnet.recipe import Test as Test
    from budgetnet.reporting import by_resolution as by_resolution
    from budgetnet.reporting import report as report
    from budgetnet.reporting import save_curves as save_curves
    from budgetnet.run import Epoch as Epoch
    from budgetnet.run import Note as Note
    from budgetnet.run import Run as Run
    from budgetnet.schedule import Cosine as Cosine
    from budgetnet.schedule import Early as Early
    from budgetnet.schedule import Linear as Linear
    from budgetnet.schedule import MultiStep as MultiStep
    from budgetnet.schedule import OneCycle as OneCycle
    from budgetnet.schedule import Plateau as Plateau
    from budgetnet.schedule import Restarts as Restarts
    from budgetnet.schedule import Step as Step
    from budgetnet.schedule import Triangular as Triangular
    from budgetnet.schedule import Warmup as Warmup
    from budgetnet.trainer import EndTraining as EndTraining
    from budgetnet.trainer import Evaluation as Evaluation
    from budgetnet.trainer import Prediction as Prediction
    from budgetnet.trainer import TensorBoard as TensorBoard
    from budgetnet.trainer import Trainer as Trainer
    from budgetnet.trainer import TrainingFailed as TrainingFailed
    from budgetnet.trainer import TrainingStep as TrainingStep
    from budgetnet.trainer import every as every

__version__ = VERSION

# Room by room: importing torch costs seconds, and `budgetnet --help` should not.
_ROOMS = {
    "augment": "AlternatingFlip CenterCrop Crop Cutmix Erase Flip Grayscale Jitter Mixup RandAugment Rotate "
    "Shift Translate TrivialAugmentWide",
    "budget": "Budget DoesNotFit Ledger OverBudget check_fit count ledger macs summary",
    "compression": "compress",
    "data": "Data Split arrays cifar10 dataset digits folder stl10 table tiny_imagenet",
    "distill": "Distill",
    "exporting": "Exported Int8 Pushed export model_card push read_export",
    "layers": "Quantised",
    "loss": "DistillationLoss LabelSmoothingLoss",
    "modelfile": "load save",
    "optim": "SGD Adam AdamW Muon",
    "plan": "read_plan",
    "profiling": "Profile profile",
    "recipe": "BackOff EMA EarlyStop FixMatch Group Groups Phase PseudoLabels Ramp Recipe Test",
    "reporting": "by_resolution report save_curves",
    "run": "Epoch Note Run",
    "schedule": "Cosine Early Linear MultiStep OneCycle Plateau Restarts Step Triangular Warmup",
    "trainer": "EndTraining Evaluation Prediction TensorBoard Trainer TrainingFailed TrainingStep every",
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names.split()}
_MODULES = ("compare", "layers", "metrics", "models", "sweep")

__all__ = ["__version__", *_MODULES, *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    """The public name `name`, imported from its room on first use."""
    if name in _HOME:
        value = getattr(import_module(f"budgetnet.{_HOME[name]}"), name)
        if isinstance(value, type):
            from budgetnet.values import hinting

            hinting(value)
    elif name in _MODULES:
        value = import_module(f"budgetnet.{name}")
    else:
        from budgetnet.values import lacking

        raise lacking(__name__, __all__, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return __all__
