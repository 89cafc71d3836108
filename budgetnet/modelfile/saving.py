"""Saving a model to a file, and looking at once whether what lies there is the model."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from budgetnet.budget import built, check_state, untimed
from budgetnet.modelfile.again import difference
from budgetnet.modelfile.card import card, described
from budgetnet.modelfile.file import check_weight, write


@untimed()
def save(
    model: nn.Module, path: str | Path, *, classes: Sequence[str] = (), resolution: int | None = None
) -> None:
    """Write the model's weights and card to one safetensors file, whole or not at all.

    The card of a trained or loaded model is kept, apart from what is given here. The model's budget is
    checked once more. Raises OverBudget if it no longer keeps it. The file is then loaded into a fresh model,
    where one can be made: a RuntimeWarning says if that gives other logits.
    """
    check_state(model)
    origin = built(model)
    if origin is not None:
        origin.budget.check(model)
    noted = card(model) or described(model)
    entries = {name: getattr(noted, name) for name in ("classes", "resize", "crop", "channels")}
    if classes:
        entries["classes"] = tuple(classes)
    if resolution is not None:
        entries["resize"] = entries["crop"] = resolution
    target, noted = Path(path), replace(noted, **entries)
    check_weight(model, noted)
    try:
        write(model, model.state_dict(), noted, target)
    except OSError as error:
        raise ValueError(
            f"{target} cannot be written: {error.strerror or error}; choose another path"
        ) from None
    differs = difference(target, model)
    if differs:
        warnings.warn(differs, RuntimeWarning, stacklevel=2)
