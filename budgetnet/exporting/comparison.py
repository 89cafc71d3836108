"""Comparison: an exported file beside the model that it comes from, on the same images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from budgetnet.augment import looks, test_view
from budgetnet.budget import seconds
from budgetnet.modelfile import Card
from budgetnet.text import aligned, percent

BATCH = 64
TIE, CLOSE = 1e-4, 1e-3
"""How near two logits are a tie, and how far those of an export may lie off, both for logits up to 1."""


@dataclass(frozen=True)
class Side:
    """One of both: accuracy (NaN without labels), bytes, and milliseconds for one image on one thread.

    `peak` are the most bytes of memory of a process of its own that runs one image, `working` those of them
    that its libraries had not taken before; None where that cannot be measured.
    """

    accuracy: float
    bytes: int
    milliseconds: float
    peak: int | None = None
    working: int | None = None


@dataclass(frozen=True)
class Comparison:
    """A model `before` and `after` its export, on `images` images, which `what` names.

    `difference` is the largest of logits, beside the `largest` logit; `differ` labels of them are others, all
    but `ties` of them by more than a rounding. `limit` are the most bytes that the file may have. `arena` are
    those of RAM that a microcontroller's interpreter takes at most, where it is exported for one.
    """

    images: int
    what: str
    difference: float
    largest: float
    differ: int
    ties: int
    before: Side
    after: Side
    limit: int | None
    arena: int | None = None

    @property
    def same(self) -> bool:
        """Whether the export is the same model: its logits near, its labels the same but for ties."""
        return self.differ == self.ties and self.difference <= CLOSE * (1 + self.largest)

    @property
    def lost(self) -> float:
        """The points of accuracy that the export costs; NaN without labels."""
        return 100 * (self.before.accuracy - self.after.accuracy)

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" of {self.limit:,}"
        ties = f", {self.ties:,} of them ties" if self.ties else ""
        rows: list[tuple[str, ...]] = [("", "original", "exported")]
        rows.append(("accuracy", *(percent(each.accuracy) for each in self._both)))
        rows.append(("bytes", f"{self.before.bytes:,}", f"{self.after.bytes:,}{limit}"))
        rows.append(("ms an image, batch 1, 1 thread", *(f"{each.milliseconds:.2f}" for each in self._both)))
        if self.arena is not None:
            rows.append(("bytes of a microcontroller's arena", "", f"{self.arena:,}"))
        for title, (before, after) in (
            ("MB of a process at its peak", (self.before.peak, self.after.peak)),
            ("MB of these beyond libraries", (self.before.working, self.after.working)),
        ):
            if before is not None and after is not None:
                rows.append((title, *(f"{each / 1e6:.1f}" for each in (before, after))))
        return (
            f"{self.images:,} {self.what}: logits differ by at most {self.difference:.2g} (the largest is "
            f"{self.largest:.3g}), labels of {self.differ:,}{ties}\n{aligned(rows)}"
        )

    @property
    def _both(self) -> tuple[Side, Side]:
        return self.before, self.after


def logits(model: nn.Module, images: Tensor, card: Card, sides: tuple[int, int]) -> Tensor:
    """What a model says (B, K) of uint8 images, seen as its card says at (resize, crop)."""
    with torch.inference_mode():
        views = test_view(images, resize=sides[0], crop=sides[1])
        taken = looks(views, mirror=card.mirror, shift=card.shift)
        return torch.stack([weight * model(look).float() for weight, look in taken]).sum(dim=0)


def noise(channels: int, side: int, count: int = 64) -> Tensor:
    """Images uint8 (count, channels, side, side) of soft blots, always the same ones."""
    drawn = torch.Generator().manual_seed(0)
    blots = torch.rand(count, channels, 4, 4, generator=drawn)
    soft = nn.functional.interpolate(blots, (side, side), mode="bicubic")
    grain = torch.rand(count, channels, side, side, generator=drawn) / 4
    return ((0.75 * soft + grain).clamp(0, 1) * 255).to(torch.uint8)


def told_apart(before: Tensor, after: Tensor) -> tuple[float, float, int, int]:
    """The largest difference of logits (N, K), the largest logit, labels that differ, ties among these."""
    if before.shape != after.shape:
        return math.inf, 0.0, len(before), 0
    difference, largest = float((before - after).abs().max()), float(before.abs().max())
    ours, theirs = before.argmax(dim=1), after.argmax(dim=1)
    gaps = before.amax(dim=1) - before.gather(1, theirs[:, None])[:, 0]
    other = ours != theirs
    ties = other & (gaps <= TIE * (1 + largest))
    return difference if math.isfinite(difference) else math.inf, largest, int(other.sum()), int(ties.sum())


def cost(make: Callable[[], nn.Module], image: Tensor) -> float:
    """Milliseconds for one image (1, C, H, W) on one thread."""
    return 1000 * seconds(make, image)
