"""Images that are the same photo although their bytes differ: stored again, mirrored, lighter, blurred."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from budgetnet.data import Split, recall, source_of

# Thresholds on the correlation of gradients, chosen on CIFAR-10, STL-10 and Tiny-ImageNet: see docs/guard.md.
COARSE, MEDIUM, FINE = (4, 0.92), (16, 0.88), (24, 0.7)
# From this share of look-alikes on, the training images are asked whether they are alike among themselves.
MANY, SAME = 0.02, 0.985
# Pairs of images that are compared at most; about two seconds on one core.
PAIRS = 2_500_000_000
# Part of the key that findings are kept by: raised whenever the same images would give others.
VERSION = 1


class Pair(NamedTuple):
    """An image of training and one of another split that look like the same photo, perhaps mirrored."""

    train_at: int
    other_at: int
    mirrored: bool
    likeness: float


@dataclass(frozen=True)
class Alike:
    """The pairs found, the best for each image of the other split, and how many images were looked at."""

    pairs: tuple[Pair, ...]
    looked: int


class Base(NamedTuple):
    """What the training images are searched by: uint8 (N, C, 16, 16), and their gradients at 4 x 4."""

    pictures: Tensor
    coarse: Tensor


def look_alikes(train: Split, *others: Split) -> tuple[Alike, ...]:
    """Find the images of each other split that look like one of `train`, as it is or mirrored, and differ.

    Two images look alike when the gradients of their 16 x 16 pictures, in colour, correlate by 0.88 or more,
    and those at 24 x 24 by 0.7. That holds for photos stored again as JPEG, mirrored, made lighter or blurred
    a little, not for shifted or cropped ones. Where training images look alike among themselves, as drawn
    digits do, only pairs of 0.985 count, and only when they are a tenth of all. Below 16 x 16 pixels nothing
    is looked for. The other splits are looked at in even steps when all pairs would be too many.

        (found,) = look_alikes(data.train, data.val)
    """
    if not others or min(train.shape[2:]) < MEDIUM[0]:
        return tuple(Alike((), 0) for _ in others)

    def look() -> list[tuple[list[Pair], int]]:
        pictures = _pictures(train)
        base = Base(pictures, _gradients(pictures, COARSE[0], grey=True))
        return [_alike(train, base, other) for other in others]

    if source_of(train.images) is None:
        answers = look()
    else:
        marks = [other.fingerprint() for other in others]
        answers = recall(train.images, f"look-alikes {VERSION} {marks}", look)
    return tuple(Alike(tuple(Pair(*pair) for pair in pairs), looked) for pairs, looked in answers)


def _alike(train: Split, base: Base, other: Split) -> tuple[list[Pair], int]:
    """Find the pairs of one other split, less those that say nothing in a set whose images are all alike."""
    pairs, looked = _pairs(train, base, other, None)
    if len(pairs) > MANY * looked:
        own, count = _pairs(train, base, train, 500)
        if len(own) * looked > 0.5 * len(pairs) * count:
            pairs = [pair for pair in pairs if pair.likeness >= SAME]
            pairs = pairs if len(pairs) >= 0.1 * looked else []
    return pairs, looked


def _pairs(train: Split, base: Base, other: Split, most: int | None) -> tuple[list[Pair], int]:
    """The best pair of each image of `other`, and how many were looked at; none of an image with itself."""
    looked = min(len(other), max(1, PAIRS // (2 * len(train))), most or len(other))
    rows = torch.linspace(0, len(other) - 1, looked).long()
    itself = other is train
    queries = base.pictures[rows] if itself else _pictures(other, rows)
    best: dict[int, Pair] = {}
    for mirrored in (False, True):
        shown = queries.flip(-1) if mirrored else queries
        for at, where, score in zip(*_candidates(base, shown)):
            pair = Pair(where, int(rows[at]), mirrored, score)
            if itself and pair.train_at == pair.other_at:
                continue
            if at in best and best[at].likeness >= score:
                continue
            if _holds(train, other, pair):
                best[at] = pair
    return [best[at] for at in sorted(best)], looked


def _candidates(base: Base, queries: Tensor) -> tuple[list[int], list[int], list[float]]:
    """Positions in `queries` and `base`, and the likeness, of pairs that are alike at 4 x 4 and 16 x 16."""
    side, least = COARSE
    small, ours = base.coarse, _gradients(queries, side, grey=True)
    at, where = [], []
    # Blocks that stay in a core's cache, of which most rows hold nothing.
    for start in range(0, len(ours), 512):
        for begin in range(0, len(small), 1024):
            likeness = ours[start : start + 512] @ small[begin : begin + 1024].T
            some = (likeness.amax(1) > least).nonzero().flatten()
            rows, columns = (likeness[some] > least).nonzero(as_tuple=True)
            at.append(some[rows] + start)
            where.append(columns + begin)
    first, second = torch.cat(at), torch.cat(where)
    side, least = MEDIUM
    scores = torch.zeros(len(first))
    for start in range(0, len(first), 1024):
        here, there = queries[first[start : start + 1024]], base.pictures[second[start : start + 1024]]
        scores[start : start + 1024] = (_gradients(here, side) * _gradients(there, side)).sum(1)
    kept = scores > least
    return first[kept].tolist(), second[kept].tolist(), scores[kept].tolist()


def _holds(train: Split, other: Split, pair: Pair) -> bool:
    """Whether a pair is alike in its finer detail too, and not the very same bytes."""
    there, here = train[[pair.train_at]][0].cpu(), other[[pair.other_at]][0].cpu()
    if there.shape == here.shape and torch.equal(there, here):
        return False
    here = here.flip(-1) if pair.mirrored else here
    side, least = FINE
    return float((_gradients(there, side) * _gradients(here, side)).sum()) > least


def _pictures(split: Split, rows: Tensor | None = None) -> Tensor:
    """The images at these positions (all by default) as uint8 (n, C, 16, 16)."""
    count = len(split) if rows is None else len(rows)
    step = max(1, (1 << 24) // max(1, split.shape[1:].numel()))
    parts = []
    for start in range(0, count, step):
        which = slice(start, start + step) if rows is None else rows[start : start + step]
        parts.append(adaptive_avg_pool2d(split[which][0].cpu().float(), MEDIUM[0]).round().to(torch.uint8))
    return torch.cat(parts)


def _gradients(images: Tensor, side: int, *, grey: bool = False) -> Tensor:
    """The differences of neighbouring pixels at side x side, in a row of norm 1 for each image.

    An image without any detail gives zeros, and so is like no other.
    """
    pixels = images.float().mean(1, keepdim=True) if grey else images.float()
    if pixels.shape[2:] != (side, side):
        pixels = adaptive_avg_pool2d(pixels, side)
    across, down = pixels[..., 1:] - pixels[..., :-1], pixels[..., 1:, :] - pixels[..., :-1, :]
    gradients = torch.cat([across.flatten(1), down.flatten(1)], dim=1)
    unit: Tensor = gradients / gradients.norm(dim=1, keepdim=True).clamp(min=1.0)
    return unit
