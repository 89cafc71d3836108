"""Whitening of patches by a frozen convolution, whose filters come from the training images."""

from collections.abc import Iterable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from budgetnet.layers.arguments import require_counts, require_positive


class Fitting(Protocol):
    """A layer that takes something from the training images before the first step, and keeps it.

    The Trainer calls `fit_to` once where `fitted` is false, with batches of what arrives at the layer when
    5,000 training images (or all, where there are fewer), spread evenly over the split, are shown to the
    model as in a test. `fitted` is a bool buffer, so that it travels with the weights.
    """

    fitted: Tensor

    def fit_to(self, batches: Iterable[Tensor]) -> None:
        """Take what is needed from batches (B, C, H, W) on the layer's device, and set `fitted`."""


def whiten(inputs: int, kernel: int = 2, *, eps: float = 5e-4, bias: bool = True) -> "Whiten":
    """A frozen convolution whose filters whiten patches of kernel x kernel pixels, and their negatives.

    (B, inputs, H, W) -> (B, 2 * inputs * kernel**2, H - kernel + 1, W - kernel + 1). The filters are the
    eigenvectors of the patches' second moments, each divided by sqrt(eigenvalue + eps), the most frequent
    direction first; then all of them again with the other sign, so that an activation that follows loses
    nothing. They are fitted to the training images before the first step by the Trainer, as the statistics of
    `standardise` are, and travel with the weights; until then they are torch's random ones. The weights never
    learn but are counted as parameters; the `bias` learns.

    Raises ValueError for counts below 1 and an eps that is not above 0. Reference:
    https://arxiv.org/abs/2404.00498, section 3.2.

    >>> layer = whiten(3)
    >>> layer.fit_to([torch.rand(16, 3, 8, 8)])
    >>> layer(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 24, 31, 31])
    """
    require_counts("whiten", inputs=inputs, kernel=kernel)
    require_positive("whiten", eps=eps)
    return Whiten(inputs, kernel, eps, bias)


class Whiten(nn.Conv2d):
    """The convolution that `whiten` builds; `fitted` is true once its filters are those of images."""

    fitted: Tensor

    def __init__(self, inputs: int, kernel: int, eps: float, bias: bool) -> None:
        super().__init__(inputs, 2 * inputs * kernel**2, kernel, bias=bias)
        self.weight.requires_grad_(False)
        self.eps = eps
        self.register_buffer("fitted", torch.tensor(False))

    def fit_to(self, batches: Iterable[Tensor]) -> None:
        """Set the filters from batches of images (B, inputs, H, W), for good.

        The sums are in float64, and of the two signs of an eigenvector the one is taken whose first entry of
        any weight is positive: the same images give the same filters. Raises ValueError if they are set
        already, without a patch, and for numbers that are not finite.
        """
        if self.fitted:
            raise ValueError(
                "Whiten.fit_to: the filters are set already; ask `.fitted` first, or build the model anew"
            )
        size = self.in_channels * self.kernel_size[0] ** 2
        # Apple's GPUs have no float64.
        device = torch.device("cpu") if self.weight.device.type == "mps" else self.weight.device
        moments = torch.zeros(size, size, dtype=torch.float64, device=device)
        patches = 0
        for images in batches:
            rows = F.unfold(images.to(device).double(), self.kernel_size).transpose(1, 2).reshape(-1, size)
            moments += rows.T @ rows
            patches += len(rows)
        if not patches or not bool(moments.isfinite().all()):
            what = "numbers that are not finite" if patches else "no patch"
            raise ValueError(f"Whiten.fit_to: expected patches of images, and found {what}")
        filters = whitening(moments.cpu() / patches, self.eps).view(-1, *self.weight.shape[1:])
        with torch.no_grad():
            self.weight.copy_(torch.cat([filters, -filters]))
        self.fitted.fill_(True)


def whitening(moments: Tensor, eps: float) -> Tensor:
    """The rows (D, D) that whiten vectors with these second moments (D, D), the largest eigenvalue first."""
    values, vectors = torch.linalg.eigh(moments)
    rows = vectors.T.flip(0)
    # Not the sign of the largest entry: rounding may decide between two that are equally large.
    heavy = rows.abs() >= 0.5 * rows.abs().amax(dim=1, keepdim=True)
    first = rows.gather(1, heavy.int().argmax(dim=1, keepdim=True))
    scales: Tensor = first.sign() / (values.flip(0)[:, None].clamp(min=0) + eps).sqrt()
    filters: Tensor = rows * scales
    return filters
