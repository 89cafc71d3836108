"""Interleaved: a split's images with the channels of each pixel together, as CPUs' convolutions read them."""

import torch
from torch import Tensor

from budgetnet.data.splits import Split


class Interleaved:
    """A copy in memory of a split's images and labels whose batches come out in torch.channels_last.

    They are otherwise exactly the split's own. To turn batches one by one takes longer than to gather them
    and make floats of them.
    """

    device = torch.device("cpu")

    def __init__(self, split: Split) -> None:
        assert isinstance(split.images, Tensor)
        self.labels = split.labels
        # (N, H, W, C): rows of a tensor that is contiguous are gathered fastest.
        self._pixels = split.images.permute(0, 2, 3, 1).contiguous()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return images uint8 (B, C, H, W) and labels int64 (B,) at positions int64 (B,) or in a slice."""
        if isinstance(which, slice):
            return self._pixels[which].permute(0, 3, 1, 2), self.labels[which]
        pixels = self._pixels.index_select(0, which)
        return pixels.permute(0, 3, 1, 2), self.labels.index_select(0, which)
