"""The budget room: what a network may cost, what it does cost, and the search that spends the rest."""

from budgetnet.budget.construction import Built as Built
from budgetnet.budget.construction import built as built
from budgetnet.budget.construction import check_constants as check_constants
from budgetnet.budget.construction import count as count
from budgetnet.budget.construction import external as external
from budgetnet.budget.filed import DESCRIPTION as DESCRIPTION
from budgetnet.budget.filed import Form as Form
from budgetnet.budget.filed import forms as forms
from budgetnet.budget.filed import head as head
from budgetnet.budget.filed import size as size
from budgetnet.budget.fit import DoesNotFit as DoesNotFit
from budgetnet.budget.fit import check_fit as check_fit
from budgetnet.budget.hidden import held as held
from budgetnet.budget.ledger import Ledger as Ledger
from budgetnet.budget.ledger import Row as Row
from budgetnet.budget.ledger import ledger as ledger
from budgetnet.budget.ledger import macs as macs
from budgetnet.budget.limits import Budget as Budget
from budgetnet.budget.meta import first_line as first_line
from budgetnet.budget.meta import random_states_kept as random_states_kept
from budgetnet.budget.meta import twin as twin
from budgetnet.budget.modules import check_state as check_state
from budgetnet.budget.refusal import NotFromScratch as NotFromScratch
from budgetnet.budget.refusal import OverBudget as OverBudget
from budgetnet.budget.spend import Spent as Spent
from budgetnet.budget.spend import StepUp as StepUp
from budgetnet.budget.summary import Layer as Layer
from budgetnet.budget.summary import Summary as Summary
from budgetnet.budget.summary import summary as summary

__all__ = [
    "Budget",
    "DESCRIPTION",
    "Built",
    "DoesNotFit",
    "Form",
    "Layer",
    "Ledger",
    "NotFromScratch",
    "OverBudget",
    "Row",
    "Spent",
    "StepUp",
    "Summary",
    "built",
    "check_constants",
    "check_fit",
    "check_state",
    "count",
    "external",
    "first_line",
    "forms",
    "head",
    "held",
    "ledger",
    "macs",
    "random_states_kept",
    "size",
    "summary",
    "twin",
]
