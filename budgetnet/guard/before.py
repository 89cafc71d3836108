"""What is worth knowing before a training begins, about its data and its recipe."""

import math

import torch
from torch import Tensor

from budgetnet.data import Data, Split, remark_kind, source_of
from budgetnet.guard.again import taught
from budgetnet.guard.alike import look_alikes
from budgetnet.guard.phases import phase_notes
from budgetnet.recipe import Recipe

FEW = 200
"""Fewer images than this measure an accuracy by several points either way."""


def before(data: Data, recipe: Recipe) -> list[str]:
    """What makes the figures of a training other than they seem, one sentence for each; nothing is refused.

    Images that are trained on and measured, byte for byte or by their looks; splits that are too small or
    missing; measuring that is not plain; teachers that learnt what is held out here; schedules that never
    move and stops that never come. Takes seconds where there are tens of thousands of images.
    """
    notes = [note for note in data.notes if remark_kind(note) == "overlap"]
    return [
        *(notes or data.overlaps()),
        *_alike(data),
        *_unlabelled(data),
        *_small(data),
        *_test_in_use(data, recipe),
        *taught(data, recipe),
        *phase_notes(data, recipe),
    ]


def _alike(data: Data) -> list[str]:
    """Images of val and test that look like training images."""
    splits = {name: part for name, part in data.splits.items() if name in ("val", "test")}
    notes = []
    for (name, split), alike in zip(splits.items(), look_alikes(data.train, *splits.values())):
        if not alike.pairs:
            continue
        count, pair = len(alike.pairs), alike.pairs[0]
        among = "" if alike.looked == len(split) else f" that were compared, of {len(split):,},"
        look, are = ("looks", "is") if count == 1 else ("look", "are")
        mirrored = " mirrored" if pair.mirrored else ""
        example = f"for one {name}[{pair.other_at}] and train[{pair.train_at}]{mirrored}"
        notes.append(
            f"{count:,} of the {alike.looked:,} {name} images{among} {look} alike to training images, but "
            f"{are} not equal byte for byte ({example}): {name}'s accuracy may flatter by up to "
            f"{100 * count / alike.looked:.1f} points"
        )
    return notes


def _unlabelled(data: Data) -> list[str]:
    """Images of val and test that lie among the unlabelled ones too."""
    if data.unlabelled is None:
        return []
    notes = []
    for name in ("val", "test"):
        split = data.splits.get(name)
        pairs = _common(split, data.unlabelled) if split is not None else []
        if split is not None and pairs:
            are = "image is" if len(pairs) == 1 else "images are"
            notes.append(
                f"{len(pairs):,} {name} {are} among the unlabelled ones too, byte for byte (for one "
                f"{name}[{pairs[0][0]}] = unlabelled[{pairs[0][1]}]): whoever learns from those learns from "
                f"what {name} measures by; leave them out"
            )
    return notes


def _common(split: Split, unlabelled: Split) -> list[tuple[int, int]]:
    """Positions of the images of `split` that are in `unlabelled`, and where the first such one is there.

    One line of pixels of each image is compared first, unless what is known of files makes that needless.
    """
    if not isinstance(unlabelled.images, Tensor) or source_of(unlabelled.images) is not None:
        first: dict[bytes, int] = {}
        for at, digest in enumerate(unlabelled.digests()):
            first.setdefault(digest, at)
        own = enumerate(split.digests())
        return [(at, first[digest]) for at, digest in own if digest in first]
    # STL-10's file holds its pictures column by column.
    column = unlabelled.images.stride(-1) > unlabelled.images.stride(-2)
    needed, offered = _lines(split, column=column), _lines(unlabelled, column=column)
    here = torch.isin(needed, offered).nonzero().flatten()
    there = torch.isin(offered, needed).nonzero().flatten()
    known: dict[bytes, int] = {}
    for at, digest in zip(there.tolist(), unlabelled.subset(there).digests()):
        known.setdefault(digest, at)
    digests = zip(here.tolist(), split.subset(here).digests())
    return [(at, known[digest]) for at, digest in digests if digest in known]


def _lines(split: Split, *, column: bool) -> Tensor:
    """A number for the middle line of each image, int64 (N,), the same for the same pixels."""
    side = split.shape[3 if column else 2] // 2
    generator = torch.Generator().manual_seed(0)
    length = split.shape[1] * split.shape[2 if column else 3]
    factors = torch.randint(-(2**62), 2**62, (length,), generator=generator)
    keys = []
    for start in range(0, len(split), 8192):
        images = split[slice(start, start + 8192)][0]
        line = images[..., side] if column else images[..., side, :]
        keys.append((line.flatten(1).cpu().long() * factors).sum(1))
    return torch.cat(keys)


def _small(data: Data) -> list[str]:
    """Splits too small to tell one figure from another."""
    notes = []
    for name, words in (("val", "validation"), ("test", "test")):
        split = data.splits.get(name)
        if split is not None and len(split) < FEW:
            error = 50 / math.sqrt(len(split))
            notes.append(
                f"{len(split)} {words} images tell an accuracy of 50 % to within {error:.1f} points (one "
                f"standard error): differences below {2 * error:.0f} points say nothing"
            )
    return notes


def _test_in_use(data: Data, recipe: Recipe) -> list[str]:
    """Whether the test images will do the work of validation images."""
    if data.test is None:
        return []
    if data.val is None:
        return [
            "the test images are measured and there are no validation images: whoever chooses by that figure "
            "has no test left; hold some training images out with held_out="
        ]
    if "test" in recipe.measure:
        return [
            "the test images are measured after every epoch: look at them, but choose epochs, phases and "
            "recipes by validation, or the test figure is no longer one"
        ]
    return []
