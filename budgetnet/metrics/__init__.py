"""Metrics: figures of a model's answers, class by class and in all, and how far they can be trusted."""

from budgetnet.metrics.classes import ClassFigures as ClassFigures
from budgetnet.metrics.classes import ClassRow as ClassRow
from budgetnet.metrics.classes import by_class as by_class
from budgetnet.metrics.classes import class_rows as class_rows
from budgetnet.metrics.classes import macro as macro
from budgetnet.metrics.interval import LEVEL as LEVEL
from budgetnet.metrics.interval import interval_text as interval_text
from budgetnet.metrics.interval import student as student
from budgetnet.metrics.interval import wilson as wilson
from budgetnet.metrics.known import AUC as AUC
from budgetnet.metrics.known import ECE as ECE
from budgetnet.metrics.known import F1 as F1
from budgetnet.metrics.known import BalancedAccuracy as BalancedAccuracy
from budgetnet.metrics.known import Precision as Precision
from budgetnet.metrics.known import Recall as Recall
from budgetnet.metrics.known import TopK as TopK
from budgetnet.metrics.known import unanswered as unanswered
from budgetnet.metrics.metric import Answers as Answers
from budgetnet.metrics.metric import Metric as Metric
from budgetnet.metrics.metric import check_metrics as check_metrics
from budgetnet.metrics.metric import metric_name as metric_name
from budgetnet.metrics.metric import metrics_of as metrics_of
from budgetnet.metrics.metric import metrics_text as metrics_text
from budgetnet.metrics.metric import scored as scored
from budgetnet.metrics.paired import Paired as Paired
from budgetnet.metrics.paired import paired as paired

__all__ = [
    "AUC",
    "ECE",
    "F1",
    "BalancedAccuracy",
    "ClassFigures",
    "Metric",
    "Paired",
    "Precision",
    "Recall",
    "TopK",
    "paired",
    "student",
    "wilson",
]
