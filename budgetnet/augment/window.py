"""Window: the rows of a batch whose views one process makes, drawn as for all of the batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from budgetnet.augment.mix import Cutmix, Mixup
from budgetnet.augment.pieces import Pass, in_pieces
from budgetnet.augment.steps import Batch, Step, acts_alone


@dataclass(frozen=True)
class Window:
    """The rows of a batch of `count` images that are at hand, in the order of `parts`; those at `own` among
    them are asked for, and the others are there since steps mix them into these."""

    count: int
    parts: tuple[slice, ...]
    own: slice

    def rows(self) -> Tensor:
        """Their positions in the batch, int64."""
        return torch.cat([torch.arange(part.start, part.stop) for part in self.parts])

    def spread(self, rows: Tensor) -> Tensor:
        """Rows of the window as those of the whole batch, of which the others are zeros."""
        whole = rows.new_zeros(self.count, *rows.shape[1:])
        for part, some in self._pieces(rows):
            whole[part] = some
        return whole

    def gathered(self, whole: Tensor) -> Tensor:
        """The rows of the window out of those of the whole batch."""
        return torch.cat([whole[part] for part in self.parts])

    def through(self, passes: Sequence[Pass], images: Tensor) -> Tensor:
        """The images of the window after passes that were drawn for the whole batch."""
        pieces = []
        for part, some in self._pieces(images):
            moved = [replace(one, work=_from(one.work, part)) for one in passes]
            pieces.append(in_pieces(moved, some))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def act(
        self, step: Step, act: Callable[[Tensor, Tensor], Batch], images: Tensor, labels: Tensor
    ) -> Batch:
        """What a step makes of the images and labels of the window, which draws for the whole batch."""
        if acts_alone(step):
            return act(images, labels)
        images, labels = act(self.spread(images), self.spread(labels))
        return self.gathered(images), self.gathered(labels)

    def _pieces(self, rows: Tensor) -> list[tuple[slice, Tensor]]:
        sizes = [part.stop - part.start for part in self.parts]
        return list(zip(self.parts, torch.split(rows, sizes), strict=True))


def window_of(steps: Sequence[Step], own: slice, count: int) -> Window:
    """What must be at hand for the views of the rows at `own` of a batch of `count` images.

    Mixup and Cutmix ask for the row before each, the first for the last. What steps from elsewhere ask for is
    not known: everything.
    """
    known = all(acts_alone(step) or type(step).__module__.startswith("budgetnet.augment.") for step in steps)
    before = own.start - sum(isinstance(step, Mixup | Cutmix) for step in steps)
    if not known:
        return Window(count, (slice(0, count),), own)
    if before >= 0:
        return Window(count, (slice(before, own.stop),), slice(own.start - before, own.stop - before))
    if before + count <= own.stop:
        return Window(count, (slice(0, count),), own)
    parts = (slice(before + count, count), slice(0, own.stop))
    return Window(count, parts, slice(own.start - before, own.stop - before))


def _from(work: Callable[[Tensor, slice], Tensor], part: slice) -> Callable[[Tensor, slice], Tensor]:
    """The work on images whose first one is that at `part` of the batch that it was drawn for."""

    def moved(some: Tensor, which: slice) -> Tensor:
        start = part.start + (which.start or 0)
        return work(some, slice(start, start + len(some)))

    return moved
