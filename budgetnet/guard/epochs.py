"""What is worth saying after an epoch, the first time it is so, and of a whole evaluation."""

import math
from collections.abc import Sequence

from budgetnet.metrics import ClassFigures
from budgetnet.recipe import Phase
from budgetnet.run import Epoch
from budgetnet.text import counted

UNCHANGED = 3
"""After so many epochs of exactly the same training loss, nothing is being learnt."""


_WAYS = ("val", "train_eval", "test")
"""What an epoch may have been measured on."""
SHOWN = 5
"""So many classes are named at most."""


def after_epoch(history: Sequence[Epoch], phase: Phase, *, best_by: str | None = None) -> list[str]:
    """What the last epoch of `history` shows for the first time in its phase, one sentence for each.

    `history` are the finished epochs of the run, `phase` is the one that the last of them belongs to,
    `best_by` the figure by which the recipe keeps the best weights, where it does. A figure that something
    waits for is not a number, or a loss that was measured; the training loss stands still.
    """
    if not history:
        return []
    last = history[-1]
    own = [epoch for epoch in history if (epoch.session, epoch.phase) == (last.session, last.phase)]
    watched = phase.monitors | ({best_by} if best_by is not None else set())
    notes = []
    losses_of = {f"{way}_loss" for way in _WAYS if not math.isnan(last.measure(f"{way}_accuracy"))}
    for name in sorted(watched | losses_of):
        figures = [epoch.measure(name) for epoch in own]
        if math.isnan(figures[-1]) and not any(map(math.isnan, figures[:-1])):
            what = "it counts as no improvement" if name in watched else "the model gives NaN or infinity"
            notes.append(f"{name} of epoch {last.epoch} of phase {last.phase} is not a number (NaN): {what}")
    losses = [epoch.train_loss for epoch in own]
    if phase.trains != () and _still(losses) and not any(_still(losses[:k]) for k in range(len(losses))):
        moving = any(epoch.lr for epoch in own[-UNCHANGED:])
        why = "does the output depend on the weights, and do these learn?" if moving else "the rate is 0"
        notes.append(
            f"the training loss of phase {last.phase} has been exactly {losses[-1]:.6g} for {UNCHANGED} "
            f"epochs: nothing is learnt; {why}"
        )
    return notes


def unrecognised(figures: Sequence[ClassFigures], split: str) -> list[str]:
    """A sentence on classes with images of which none was recognised, whatever the accuracy is."""
    if not figures:
        return []
    named = ", ".join(f"{each.name} ({counted(each.images, 'image')})" for each in figures[:SHOWN])
    more = f" and {len(figures) - SHOWN} more" if len(figures) > SHOWN else ""
    return [
        f"no {split} image of {named}{more} was recognised: recall 0; look at the balanced accuracy and at "
        "each class, not at the accuracy alone"
    ]


def _still(losses: Sequence[float]) -> bool:
    """Whether the last losses are all the same."""
    return len(losses) >= UNCHANGED and len(set(losses[-UNCHANGED:])) == 1
