"""Which images are held out and which are kept: stratified, seeded draws, and lists of indices."""

import os
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path

import torch
from torch import Tensor

from budgetnet.data.folds import of_groups, seeded
from budgetnet.data.kinds import DataError
from budgetnet.data.splits import Split
from budgetnet.values import described

# Classes are counted one by one; no set has so many, and identities are no classes.
MOST = 1 << 20

HeldOut = int | float | str | os.PathLike[str] | Sequence[int] | Tensor | None
"""How many images (int), which fraction of them (float), a file of indices one a line, or the indices."""


def stratified(labels: Tensor | Sequence[int], n: int | float, seed: int = 0) -> Tensor:
    """Return n positions (or the fraction n of all) in rising order, every class in proportion.

    The shares are exact (largest remainder, ties to the lower class), and the same on every platform for
    one seed. Raises `DataError` when there are fewer.

        held_out = stratified(labels, 1000)
    """
    known = _known(labels)
    wanted = _number(n, len(known))
    counts = torch.bincount(known).tolist() if len(known) else []
    return _draw(known, _shares(counts, wanted), seed)


def takes(counts: Sequence[int], n: int) -> list[int]:
    """Return how many of each class are held out of so many images, n in all, as `stratified` shares them.

    No class loses its last image: what it would give, those with the next largest shares give.
    """
    taken, room = _shares(counts, n), [max(count - 1, 0) for count in counts]
    if sum(room) < n:
        return taken
    total = sum(counts)
    taken = [min(take, most) for take, most in zip(taken, room)]
    behind = sorted(range(len(counts)), key=lambda label: taken[label] - n * counts[label] / total)
    while n > sum(taken):
        behind = [label for label in behind if taken[label] < room[label]]
        for label in behind[: n - sum(taken)]:
            taken[label] += 1
    return taken


def fifth(counts: Sequence[int]) -> int:
    """Return how many of so many images of each class are held out where nothing is asked for."""
    return min(round(0.2 * sum(counts)), sum(max(count - 1, 0) for count in counts))


def balanced(labels: Tensor | Sequence[int], n: int, seed: int = 0, *, classes: Sequence[str] = ()) -> Tensor:
    """Return n positions of every class, in rising order; a smaller n gives a part of those of a larger one.

    Raises `DataError` naming a class (by its name, where `classes` are given) that has fewer.
    """
    known = _known(labels)
    number: object = n
    if isinstance(number, bool) or not isinstance(number, Integral) or n < 1:
        raise DataError(f"per_class is a number of images from 1, but found {n!r}")
    counts = torch.bincount(known, minlength=len(classes)).tolist()
    for label, count in enumerate(counts):
        if count < n:
            name = f"'{classes[label]}'" if label < len(classes) else str(label)
            images = "image" if count == 1 else "images"
            raise DataError(
                f"class {name} has {count} {images} to choose from, {n} asked for: lower per_class"
            )
    return _draw(known, [int(n)] * len(counts), seed)


def split(
    whole: Split,
    held_out: HeldOut,
    seed: int = 0,
    *,
    per_class: int | None = None,
    classes: Sequence[str] = (),
) -> tuple[Split, Split | None]:
    """Return what stays for training and what is held out, or None, with no image in both.

    `whole` itself comes back when all of it stays. `held_out` is a number of images or a fraction (drawn as
    by `stratified`, but never the last image of a class, and of a split with groups whole groups), or indices
    in the publisher's order (a list, or a text file with one a line). `per_class` keeps that many training
    images of each class. Raises `DataError` for what cannot be satisfied.

        train, val = split(data.train, 0.1, seed=1)
    """
    taken = _held_out(whole, held_out, seed)
    stays = torch.ones(len(whole), dtype=torch.bool)
    stays[taken] = False
    training = stays.nonzero().flatten()
    labels = whole.labels.cpu()
    _known(labels.clamp(min=0))
    before, after = (
        torch.bincount(part[part >= 0], minlength=len(classes)) for part in (labels, labels[training])
    )
    after = torch.nn.functional.pad(after, (0, len(before) - len(after)))
    emptied = ((before > 0) & (after == 0)).nonzero().flatten().tolist()
    if emptied:
        name = f"'{classes[emptied[0]]}'" if emptied[0] < len(classes) else str(emptied[0])
        count = int(before[emptied[0]])
        raise DataError(
            f"held_out leaves class {name} none of its {count} to train on: hold out fewer images"
        )
    if per_class is not None:
        training = training[balanced(labels[training], per_class, seed, classes=classes)]
    train = whole if len(training) == len(whole) else whole.subset(training)
    return train, whole.subset(taken) if len(taken) else None


def left_over(whole: Split, *used: Split | None) -> Split:
    """Return the images of `whole` that are in none of the splits `used`, without their labels (-1).

    They keep their indices, by which they are told apart. Raises `DataError` when nothing is left.

        train, val = split(whole, 500, per_class=450)
        unlabelled = left_over(whole, train, val)
    """
    taken = torch.cat([torch.zeros(0, dtype=torch.int64), *(part.indices for part in used if part)])
    rest = whole.subset(~torch.isin(whole.indices, taken))
    if not len(rest):
        raise DataError(
            f"unlabelled takes the images that per_class leaves over, and all {len(whole):,} are in use: "
            "give a per_class that leaves some"
        )
    return replace(rest, labels=torch.full_like(rest.labels, -1))


def _shares(counts: Sequence[int], wanted: int) -> list[int]:
    """Return `wanted` in proportion to the counts: the largest remainders are rounded up."""
    total = sum(counts)
    shares = [divmod(wanted * count, total) for count in counts]
    shared = [whole for whole, _ in shares]
    by_remainder = sorted(range(len(shares)), key=lambda label: -shares[label][1])
    for label in by_remainder[: wanted - sum(shared)]:
        shared[label] += 1
    return shared


def _known(labels: Tensor | Sequence[int]) -> Tensor:
    try:
        known = torch.as_tensor(labels, device="cpu").long()
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            "a draw by class takes labels that are numbers, such as those of a Split: of names give "
            "np.unique(labels, return_inverse=True)[1]"
        ) from None
    if known.ndim != 1:
        raise DataError(
            f"a draw by class takes labels (N,), but found {tuple(known.shape)}: give one for each"
        )
    if len(known) and int(known.max()) >= MOST:
        raise DataError(
            f"a draw by class takes labels that count classes from 0, but found {int(known.max()):,}: give "
            "np.unique(labels, return_inverse=True)[1]"
        )
    if len(known) and int(known.min()) < 0:
        raise DataError(
            f"a draw by class takes labels from 0, but found {int(known.min())}: are these unlabelled?"
        )
    return known


def _number(n: object, total: int) -> int:
    """Return how many of `total` images a number or a fraction asks for."""
    if isinstance(n, bool) or not isinstance(n, Real):
        raise DataError(f"held out is a number of images or a fraction of them, but found {n!r}")
    if isinstance(n, Integral):
        if not 0 <= int(n) <= total:
            raise DataError(f"there are {total:,} images, {int(n):,} asked for: ask for 0 to {total:,}")
        return int(n)
    if not 0 <= float(n) < 1:
        raise DataError(f"a fraction lies in [0, 1), but found {n}: a number of images is an int")
    number = round(float(n) * total)
    if total and float(n) > 0 and not number:
        raise DataError(f"{n} of {total:,} images is none: ask for {1 / total:.2g} or more, or for 0")
    return number


def _draw(labels: Tensor, takes: Sequence[int], seed: int) -> Tensor:
    """Return takes[label] positions of each label in rising order.

    Each class is shuffled whole whatever is taken of it, so that what is drawn of one never depends on
    another's take.
    """
    generator = seeded(seed)
    drawn = [torch.zeros(0, dtype=torch.int64)]
    # Those of each class in rising order, without a look at all labels for each class.
    counts = torch.bincount(labels, minlength=len(takes)).tolist()
    for members, take in zip(torch.split(labels.argsort(stable=True), counts), takes):
        drawn.append(members[torch.randperm(len(members), generator=generator)[:take]])
    return torch.cat(drawn).sort().values


def _held_out(whole: Split, held_out: HeldOut, seed: int) -> Tensor:
    """Return the positions within the split that are to be held out, in rising order."""
    if held_out is None:
        return torch.zeros(0, dtype=torch.int64)
    asked: object = held_out
    if isinstance(asked, Real):
        number = _number(asked, len(whole))
        if number == len(whole):
            raise DataError(
                f"held_out={held_out} leaves none of the {len(whole):,} images to train on: hold out fewer"
            )
        known = _known(whole.labels)
        if whole.groups is not None:
            return of_groups(known.tolist(), whole.groups, number, seed)
        counts = torch.bincount(known).tolist()
        return _draw(known, takes(counts, number), seed)
    if isinstance(held_out, str | os.PathLike):
        chosen, where = _read(Path(held_out).expanduser()), f" of {os.fspath(held_out)}"
    else:
        chosen, where = _indices(held_out), " of held_out"
    if chosen.numel() == 0:
        return torch.zeros(0, dtype=torch.int64)
    values = chosen.sort().values
    twice = values[1:][values[1:] == values[:-1]]
    if len(twice):
        raise DataError(f"index {int(twice[0])}{where} is given twice: each image is held out once")
    in_order, positions = whole.indices.sort()
    at = torch.searchsorted(in_order, values).clamp(max=len(in_order) - 1)
    missing = values[in_order[at] != values]
    if len(missing):
        span = f"{int(in_order[0])} ... {int(in_order[-1])}"
        raise DataError(
            f"index {int(missing[0])}{where} is not among the {len(whole):,} images (indices {span})"
        )
    return positions[at].sort().values


def _indices(given: object) -> Tensor:
    """Return indices as int64 (n,)."""
    try:
        indices = torch.as_tensor(given, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"held_out is a number, a fraction, a file or indices, but found {given!r:.60}"
        ) from None
    if indices.numel() and (indices.ndim != 1 or indices.is_floating_point() or indices.dtype == torch.bool):
        raise DataError(f"held_out as indices is a row of whole numbers, but found {described(indices)}")
    return indices.long().reshape(-1)


def _read(path: Path) -> Tensor:
    """Return the indices in a text file, one a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise DataError(
            f"held_out names a text file of indices, but {path} cannot be read ({reason})"
        ) from None
    values = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if not (line.strip().isascii() and line.strip().isdigit()):
            raise DataError(f"line {number} of {path} should be an index, but found {line.strip()[:40]!r}")
        values.append(int(line))
    return torch.tensor(values, dtype=torch.int64)
