"""Metrics: figures of a model's answers, class by class and in all, and how far they can be trusted."""

from budgetnet.metrics.classes import ClassFigures as ClassFigures
from budgetnet.metrics.classes import by_class as by_class
from budgetnet.metrics.classes import macro as macro
from budgetnet.metrics.interval import LEVEL as LEVEL
from budgetnet.metrics.interval import interval_text as interval_text
from budgetnet.metrics.interval import student as student
from budgetnet.metrics.interval import wilson as wilson

__all__ = ["ClassFigures", "student", "wilson"]
