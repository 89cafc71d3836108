"""What a model object that was trained before makes of the figures of a training that goes on from it."""

from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from budgetnet.data import Data, Past, class_difference, past, remember
from budgetnet.guard.runs import chained, record_of
from budgetnet.guard.seen import learnt_before, read_seen
from budgetnet.recipe import Recipe


def mark(model: nn.Module, data: Data, hashes: Tensor, *, anew: bool) -> None:
    """Remember with the model which images it learns from, besides those of before unless it is made `anew`.

    `hashes` are those of the images, and of the images of runs that it goes on from.
    """
    before = None if anew else past(model)
    name = data.name
    if before is not None:
        hashes = torch.unique(torch.cat([_hashes(before), hashes.cpu()]))
        names = before.name.split(" and ") if before.name else []
        name = " and ".join(dict.fromkeys([*names, data.name]))
    images = np.ascontiguousarray(hashes.cpu().numpy().astype("<i8")).tobytes()
    remember(model, Past(name, data.classes, len(hashes), images))


def again(model: nn.Module, data: Data) -> list[str]:
    """Whether the model was trained before, on what, and whether images of val and test were among that."""
    before = past(model)
    if before is None:
        return []
    return [
        *([_said(before, data)] if before.whole else []),
        *(
            f"{images} among the images that the model was trained on before: {name}'s figures flatter; "
            "build a new model for each fold"
            for name, images in learnt_before(data, _hashes(before))
        ),
    ]


def taught(data: Data, recipe: Recipe) -> list[str]:
    """Whether a teacher learnt from images of val and test: what it has seen its pupil knows."""
    notes = []
    for number, phase in enumerate(recipe.phases, start=1):
        for known in chain.from_iterable(getattr(step, "pasts", ()) for step in phase.augment):
            hashes, record = _hashes(known), record_of(Path(known.folder)) if known.folder else {}
            if len(hashes) or record:
                seen = hashes if len(hashes) else None
                notes += chained(data, record, seen, whose=f"the teacher of phase {number}")
    return list(dict.fromkeys(notes))


def _said(before: Past, data: Data) -> str:
    of = f"on {before.name} ({before.images:,} images)" if before.name else f"and lies in {before.folder}"
    other = ""
    if before.classes and before.classes != data.classes:
        other = f"; its outputs stood for other classes ({class_difference(data.classes, before.classes)})"
    return (
        f"the model was trained before, {of}: this training goes on from those weights{other}; build a new "
        "one for each fold, seed or comparison"
    )


def _hashes(before: Past) -> Tensor:
    """The hashes of the images that were learnt from, int64 (n,); none where they are not known."""
    if before.folder:
        try:
            digests = read_seen(Path(before.folder))
        except ValueError:
            digests = None
        return digests if digests is not None else torch.empty(0, dtype=torch.int64)
    return torch.from_numpy(np.frombuffer(before.hashes, "<i8").astype(np.int64))
