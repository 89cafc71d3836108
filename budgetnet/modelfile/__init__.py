"""Model files: weights in safetensors with a card beside them that says how to build and use the model."""

from budgetnet.modelfile.again import difference as difference
from budgetnet.modelfile.card import Card as Card
from budgetnet.modelfile.card import card as card
from budgetnet.modelfile.card import described as described
from budgetnet.modelfile.file import BadModelFile as BadModelFile
from budgetnet.modelfile.file import check_weight as check_weight
from budgetnet.modelfile.file import from_words as from_words
from budgetnet.modelfile.file import read_card as read_card
from budgetnet.modelfile.file import to_words as to_words
from budgetnet.modelfile.file import write as write
from budgetnet.modelfile.loading import fill as fill
from budgetnet.modelfile.loading import load as load
from budgetnet.modelfile.saving import save as save
from budgetnet.modelfile.shipped import resolved as resolved
from budgetnet.modelfile.shipped import weights as weights

__all__ = ["BadModelFile", "load", "save"]
