"""Names of classes: labels carried from one list of names to another by name, or refused."""

from collections.abc import Sequence

import torch
from torch import Tensor

from budgetnet.data.error import DataError

SHOWN = 5
"""So many names are told."""


def listed(names: Sequence[str]) -> str:
    """The first few names in words."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def class_difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """How two lists of names differ, in words: which only one of them has, or where the order differs."""
    lost = [name for name in theirs if name not in set(ours)]
    new = [name for name in ours if name not in set(theirs)]
    if lost or new:
        told = [f"{listed(names)} only {where}" for names, where in ((new, "here"), (lost, "there")) if names]
        return " and ".join(told)
    at = next((k for k, (one, other) in enumerate(zip(ours, theirs)) if one != other), 0)
    return f"another order, class {at} being {ours[at]} here and {theirs[at]} there"


def is_numbered(names: Sequence[str]) -> bool:
    """Whether classes are only called by their numbers, as those of `arrays` with whole labels are."""
    return all(name == str(number) for number, name in enumerate(names))


def renumbered(labels: Tensor, names: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Labels (N,) that count in `names` as they count in `wanted`; -1, no label, stays.

    Raises DataError for names that labels have and `wanted` does not.
    """
    places = {name: place for place, name in enumerate(wanted)}
    used = torch.unique(labels).tolist()
    unknown = [names[label] for label in used if label >= 0 and names[label] not in places]
    if unknown:
        are = "label {} is" if len(unknown) == 1 else "labels {} are"
        raise DataError(f"the {are.format(listed(unknown))} none of the classes {listed(wanted)}")
    table = torch.tensor([*(places.get(name, -1) for name in names), -1], device=labels.device)
    return table[labels]
