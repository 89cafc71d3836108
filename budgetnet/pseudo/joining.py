"""Splits with pseudo-labels in them, and without what is held out."""

import torch
from torch import Tensor

from budgetnet.data import OnDisk, Split, chunks, fits_memory, joined
from budgetnet.pseudo.keeping import Kept, check_within


def join(train: Split, unlabelled: Split, kept: Kept) -> Split:
    """The training images, and after them the kept ones with the labels that they were given.

    The result lies where `train` lies, and only what is kept is copied out of `unlabelled`; where one of both
    is on disk and they do not fit into memory, nothing is copied. `train` itself comes back when nothing is
    kept. Indices are carried along, and so are names where there are any (an image
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
    names = None
    if train.names is not None or unlabelled.names is not None:
        pool = called(unlabelled)
        names = (*called(train), *(pool[position] for position in kept.positions.tolist()))
    return Split(
        _images(train, unlabelled, kept.positions),
        torch.cat([train.labels, kept.labels.to(train.device)]),
        torch.cat([train.indices, unlabelled.indices[kept.positions]]),
        names,
        train.classes,
    )


def _images(train: Split, unlabelled: Split, rows: Tensor) -> Tensor | OnDisk:
    """The images of `train`, and after them those of `unlabelled` at `rows`."""
    ours, theirs, count = train.images, unlabelled.images, len(train)
    size = (count + len(rows)) * train.shape[1:].numel()
    if isinstance(ours, OnDisk) or (isinstance(theirs, OnDisk) and not _room(ours.device, size)):
        ours = ours if isinstance(ours, OnDisk) else ours.cpu()
        kept = theirs.at(rows) if isinstance(theirs, OnDisk) else theirs[rows.to(theirs.device)].cpu()
        return joined(ours, kept)
    shape = (count + len(rows), *train.shape[1:])
    images = torch.empty(shape, dtype=torch.uint8, device=ours.device, pin_memory=ours.is_pinned())
    images[:count].copy_(ours)
    if isinstance(theirs, OnDisk):
        at = count
        for chunk in chunks(theirs.at(rows)):
            images[at : at + len(chunk)].copy_(chunk)
            at += len(chunk)
    elif theirs.device == ours.device:
        torch.index_select(theirs, 0, rows.to(theirs.device), out=images[count:])
    else:
        images[count:].copy_(theirs.index_select(0, rows.to(theirs.device)))
    return images


def _room(where: torch.device, size: int) -> bool:
    """Whether a device has room for images of `size` bytes."""
    return 2 * size <= torch.cuda.mem_get_info(where)[0] if where.type == "cuda" else fits_memory(size)


def apart(unlabelled: Split, *held_out: Split | None) -> Split:
    """The unlabelled images that lie in none of the `held_out` splits, byte for byte; `unlabelled` itself
    when that is all of them.

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
