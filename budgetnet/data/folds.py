"""Folds and held-out groups: every image on one side, a group never on both, classes in proportion."""

from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Integral

import torch
from torch import Tensor

from budgetnet.data.kinds import DataError


def dealt(labels: Sequence[int], groups: Sequence[str] | None, k: int, seed: int) -> list[Tensor]:
    """Return the positions of each of k folds, in rising order; every class in proportion, as far as it goes.

    The last image of a class is in none of them, nor, with `groups`, is a class's only group.
    """
    folds: list[list[int]] = [[] for _ in range(k)]
    generator = seeded(seed)
    if groups is None:
        of_class: dict[int, list[int]] = {}
        for position, label in enumerate(labels):
            of_class.setdefault(label, []).append(position)
        at = 0
        for _, members in sorted(of_class.items()):
            drawn = torch.randperm(len(members), generator=generator).tolist()
            for number in drawn if len(members) > 1 else []:
                folds[at % k].append(members[number])
                at += 1
    else:
        whole = Counter(labels)
        taken = [Counter[int]() for _ in range(k)]
        # The largest first, for the small ones even out what is left.
        for members in sorted(_members(groups, generator), key=len, reverse=True):
            counts = Counter(labels[position] for position in members)
            if _leaves(counts, whole):
                best = min(range(k), key=lambda at: (_crowd(taken[at], counts, whole), len(folds[at]), at))
                folds[best] += members
                taken[best] += counts
    if not all(folds):
        raise DataError(f"there are too few images, or groups, for {k} folds: ask for fewer")
    return [torch.tensor(sorted(fold)) for fold in folds]


def of_groups(labels: Sequence[int], groups: Sequence[str], n: int, seed: int) -> Tensor:
    """Return the positions of whole groups with about n images, in rising order, classes in proportion.

    Raises `DataError` where no group can be taken without taking all there is of a class.
    """
    if n == 0:
        return torch.zeros(0, dtype=torch.int64)
    whole = Counter(labels)
    wanted = {label: n * count / len(labels) for label, count in whole.items()}
    taken: Counter[int] = Counter()
    chosen: list[int] = []
    waiting = _members(groups, seeded(seed))
    for members in waiting:
        counts = Counter(labels[position] for position in members)
        nearer = sum(
            ((wanted[label] - taken[label] - count) ** 2 - (wanted[label] - taken[label]) ** 2)
            / wanted[label]
            for label, count in counts.items()
        )
        if nearer < 0 and len(chosen) < n and _leaves(taken + counts, whole):
            chosen, taken = chosen + members, taken + counts
    for members in sorted(waiting, key=len):
        if not chosen and _leaves(Counter(labels[position] for position in members), whole):
            chosen = members
    if not chosen:
        raise DataError(
            "no group can be held out without all that there is of a class: hold out 0, or use smaller groups"
        )
    return torch.tensor(sorted(chosen))


def seeded(seed: object) -> torch.Generator:
    """Return a generator of torch's at a seed. Raises `DataError` for what is none."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not -(2**63) <= int(seed) < 2**63:
        raise DataError(f"seed should be a whole number, not {seed!r:.60}")
    return torch.Generator().manual_seed(int(seed))


def _members(groups: Sequence[str], generator: torch.Generator) -> list[list[int]]:
    """The positions of each group, the groups in a drawn order."""
    members: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    listed = [members[group] for group in sorted(members)]
    return [listed[at] for at in torch.randperm(len(listed), generator=generator).tolist()]


def _leaves(taken: Mapping[int, int], whole: Mapping[int, int]) -> bool:
    """Whether some images of every class are left when so many are taken."""
    return all(count < whole[label] for label, count in taken.items())


def _crowd(taken: Mapping[int, int], more: Mapping[int, int], whole: Mapping[int, int]) -> float:
    """How crowded a fold would become by more images, rare classes counting as much as others."""
    return sum(
        ((taken.get(label, 0) + count) / whole[label]) ** 2 - (taken.get(label, 0) / whole[label]) ** 2
        for label, count in more.items()
    )
