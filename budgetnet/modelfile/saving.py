"""Saving a model to a file, and looking at once whether what lies there is the model."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from budgetnet.budget import built, check_state
from budgetnet.modelfile.again import difference
from budgetnet.modelfile.card import card, described
from budgetnet.modelfile.file import check_weight, write


def save(
    model: nn.Module, path: str | Path, *, classes: Sequence[str] = (), resolution: int | None = None
) -> None:
    """Write the model's weights and card to one safetensors file, whole or not at all.

    The card of a trained or loaded model is kept, apart from what is given here. The model's budget is
    checked once more. Raises OverBudget if it no longer keeps it. The file is then loaded into a fresh model,
    where one can be made: a RuntimeWarning says if that gives other logits.
    """
    check_state(model)
    made = built(model)
    if made is not None:
        made.budget.check(model)
    found = card(model) or described(model)
    entries = {name: getattr(found, name) for name in ("classes", "resize", "crop", "channels")}
    if classes:
        entries["classes"] = tuple(classes)
    if resolution is not None:
        entries["resize"] = entries["crop"] = resolution
    target, found = Path(path), replace(found, **entries)
    check_weight(model, found)
    try:
        write(model, model.state_dict(), found, target)
    except OSError as error:
        raise ValueError(
            f"{target} cannot be written: {error.strerror or error}; choose another path"
        ) from None
    told = difference(target, model)
    if told:
        warnings.warn(told, RuntimeWarning, stacklevel=2)
