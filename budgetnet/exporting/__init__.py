"""Exporting: a trained model as a file that other programs run, shown to be the same model."""

from budgetnet.exporting.exporter import Exported as Exported
from budgetnet.exporting.exporter import Int8 as Int8
from budgetnet.exporting.exporter import export as export
from budgetnet.exporting.formats import FORMATS as FORMATS
from budgetnet.exporting.formats import SUFFIXES as SUFFIXES
from budgetnet.exporting.formats import Format as Format
from budgetnet.exporting.hub import Pushed as Pushed
from budgetnet.exporting.hub import push as push
from budgetnet.exporting.module import ExportedModel as ExportedModel
from budgetnet.exporting.module import read_export as read_export
from budgetnet.exporting.page import model_card as model_card
