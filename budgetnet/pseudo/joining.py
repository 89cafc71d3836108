"""Splits with pseudo-labels in them, and without what is held out."""

import torch

from budgetnet.data import Split
from budgetnet.pseudo.keeping import Kept, check_within


def join(train: Split, unlabelled: Split, kept: Kept) -> Split:
    """
    The training images, and after them the kept ones with the labels that they were given.

    The result lies where `train` lies, and only what is kept is copied out of `unlabelled`; `train` itself
    comes back when nothing is. Indices are carried along, and so are names where there are any (an image
    without one is called by its index). Raises ValueError when the two splits or `kept` do not fit together.
    """
    if unlabelled.shape[1:] != train.shape[1:]:
        there, here = ("x".join(map(str, split.shape[1:])) for split in (unlabelled, train))
        raise ValueError(
            f"the unlabelled images are {there} and the training images {here}: store both at one size"
        )
    check_within(kept, unlabelled)
    if not len(kept):
        return train
    count, where = len(train), train.images.device
    shape = (count + len(kept), *train.shape[1:])
    images = torch.empty(shape, dtype=torch.uint8, device=where, pin_memory=train.images.is_pinned())
    images[:count].copy_(train.images)
    rows = kept.positions.to(unlabelled.images.device)
    if unlabelled.images.device == where:
        torch.index_select(unlabelled.images, 0, rows, out=images[count:])
    else:
        images[count:].copy_(unlabelled.images.index_select(0, rows))
    names = None
    if train.names is not None or unlabelled.names is not None:
        pool = called(unlabelled)
        names = (*called(train), *(pool[position] for position in kept.positions.tolist()))
    return Split(
        images,
        torch.cat([train.labels, kept.labels.to(train.device)]),
        torch.cat([train.indices, unlabelled.indices[kept.positions]]),
        names,
    )


def apart(unlabelled: Split, *held_out: Split | None) -> Split:
    """
    The unlabelled images that lie in none of the `held_out` splits, byte for byte; `unlabelled` itself when
    that is all of them.

    Whatever is judged on validation and test images should not have learnt from them, not even without their
    labels. Splits that are None are passed over. Every image is read once.

        data = replace(data, unlabelled=apart(data.unlabelled, data.val, data.test))
    """
    seen = {digest for split in held_out if split is not None for digest in split.digests()}
    stays = [position for position, digest in enumerate(unlabelled.digests()) if digest not in seen]
    return unlabelled if len(stays) == len(unlabelled) else unlabelled.subset(stays)


def called(split: Split) -> tuple[str, ...]:
    """What each image of a split is called: its file's name, or its index in the publisher's order."""
    return split.names or tuple(str(index) for index in split.indices.tolist())
