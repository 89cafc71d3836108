"""Fused: views on a GPU as two compiled functions, one of parameters and one of pixels."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from budgetnet.augment import colour, draw, read
from budgetnet.augment.mirror import MIRRORS, Mirror
from budgetnet.augment.pieces import unit
from budgetnet.augment.steps import Batch, Step, fuses
from budgetnet.augment.views import Group, act, check_view, full_precision, grouped, view
from budgetnet.augment.warp import CenterCrop, Crop

STAYS = (Crop, CenterCrop, *MIRRORS)
"""Warps that never look outside the frame; what others show there is filled."""

MANY = 10_000
"""How often the two functions may be compiled in one process; dynamo's own limit is 8."""


class FusedViews:
    """`view`, for images on a GPU: what it draws is drawn on the CPU and sent in one go.

    The warps and linear colours that a list of steps begins with are compiled, their parameters as one
    function and the pixels as another: each pixel of a view is read and recoloured in one pass. Later steps,
    and lists that begin with others, act as in `view`. The same generator state gives what `view` gives, but
    for rounding: the numbers are the same, and the sums are those of another compiler.

    With `sizes_open` one compilation serves all resolutions, else there is one for each. What a compiler
    fails with is raised at the first call.
    """

    def __init__(self, *, sizes_open: bool = False) -> None:
        self._open = sizes_open
        self._made: dict[tuple[Any, ...], _Fused] = {}
        # Each list of steps and each resolution is one compilation of the same two functions.
        self._often = torch._dynamo.config.patch(recompile_limit=MANY, accumulated_recompile_limit=MANY)

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        steps: Sequence[Step],
        *,
        resolution: int,
        classes: int,
        generator: Generator,
    ) -> Batch:
        """As `view`, with the same arguments."""
        check_view(images, labels, resolution, classes, generator)
        groups = grouped(steps)
        first = [group for group, _ in zip(groups, range(_known(groups)))]
        drawn = [step for group in first for step in group.steps]
        # A mirror's coins change with each batch, and are numbers like the others.
        key = tuple((Mirror, step.vertical) if isinstance(step, Mirror) else step for step in drawn)
        fused = self._made.get(key)
        if fused is None:
            fused = self._made[key] = _Fused(first, sizes_open=self._open)
        if not drawn or not fused.draws:
            return view(images, labels, steps, resolution=resolution, classes=classes, generator=generator)
        asked = (resolution, resolution)
        with self._often, torch.no_grad(), full_precision(images.device):
            images = fused(images, drawn, resolution, generator)
            rest, sized = groups[len(first) :], any(group.sizes for group in first)
            return act(rest, images, labels, asked, classes, generator, sized=sized)


class _Fused:
    """Groups of warps and linear colours as two compiled functions."""

    def __init__(self, groups: Sequence[Group], *, sizes_open: bool) -> None:
        self.groups = groups
        tried = [[_tried(step, group.kind) for step in group.steps] for group in groups]
        self.counts = [count for steps in tried for count, _ in steps]
        self.means = [any(means for _, means in steps) for steps in tried]
        self.draws = sum(self.counts)
        compiled: dict[str, Any] = {"dynamic": sizes_open, "fullgraph": True}
        self._parameters: Callable[..., list[Tensor]] = torch.compile(self.parameters, **compiled)
        self._pixels: Callable[..., Tensor] = torch.compile(self.pixels, **compiled)

    def __call__(self, images: Tensor, steps: Sequence[Any], resolution: int, generator: Generator) -> Tensor:
        """Images uint8 (B, C, H, W) to float32 (B, C, r, r) in [0, 1], or of their own size."""
        count, channels, height, width = images.shape
        numbers = [
            step.which.float() if isinstance(step, Mirror) else draw.even(generator, (each * count,))
            for step, each in zip(steps, self.counts, strict=True)
        ]
        sent = draw.send(torch.cat(numbers), images.device)
        return self._pixels(
            images, self._parameters(sent, count, channels, height, width, resolution), resolution
        )

    def parameters(
        self, numbers: Tensor, count: int, channels: int, height: int, width: int, resolution: int
    ) -> list[Tensor]:
        """What each group needs to know of each image: maps, or matrices of colours."""
        stream, stored, parameters = draw.Stream(numbers), (height, width), []
        for group, size in self._sized(stored, resolution):
            if group.kind == "colour":
                parameters.append(colour.combine(group.steps, stream, count, channels).float())
                continue
            same = torch.eye(3, dtype=torch.float64, device=stream.device).expand(1, count, 3, 3)
            maps = read.drawn(group.steps, stream, count, stored) if group.steps else same
            composed = read.positions(maps)
            if not _only_mirrors(group):
                composed = [read.pack(composed, _sampling(group, stored, size, channels), stored)]
            parameters.append(composed[0])
            stored = size
        return parameters

    def pixels(self, images: Tensor, parameters: Sequence[Tensor], resolution: int) -> Tensor:
        """The images uint8 (B, C, H, W) as their `parameters` say."""
        stored = (images.shape[-2], images.shape[-1])
        sized = self._sized(stored, resolution)
        for (group, size), values, uses_means in zip(sized, parameters, self.means, strict=True):
            if group.kind == "colour":
                images = colour.by_channels(unit(images), values, uses_means).clamp(0, 1)
            elif _only_mirrors(group):
                images = read.mirror(read.resize(images, size), values)
            else:
                sampling = _sampling(group, stored, size, images.shape[1])
                images = read.through(images, read.lines_of(values, sampling), sampling).clamp(0, 1)
            stored = size
        return images

    def _sized(self, stored: read.Size, resolution: int) -> Iterator[tuple[Group, read.Size]]:
        """Each group, and the size at which the images leave it."""
        for group in self.groups:
            if group.sizes:
                stored = (resolution, resolution)
            yield group, stored


def _known(groups: Sequence[Group]) -> int:
    """How many of the groups, from the first on, are warps and colours that can be compiled."""
    for number, group in enumerate(groups):
        if group.kind == "other" or not all(fuses(step) for step in group.steps):
            return number
    return len(groups)


def _tried(step: Any, kind: str) -> tuple[int, bool]:
    """How many numbers a step draws for an image, and whether it uses the means of the image's channels."""
    stream = draw.Stream(torch.zeros(1000))
    if kind == "warp":
        step.maps(stream, 1, 32, 32)
        return stream.at, False
    uses_means = step.matrices(stream, 1, 3).shape[2] > 4
    return stream.at, uses_means


def _only_mirrors(group: Group) -> bool:
    return all(isinstance(step, MIRRORS) for step in group.steps)


def _sampling(group: Group, stored: read.Size, size: read.Size, channels: int) -> read.Sampling:
    leaves = [not isinstance(step, STAYS) for step in group.steps]
    return read.sampling_of(stored, size, read.fills_of(group.steps, channels), leaves)
