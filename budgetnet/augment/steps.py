"""What a step is: the methods and attributes by which anybody's may say what it does; and lists of steps."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Generator, Tensor

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Images (B, C, H, W), and labels (B,) or (B, K)."""
Fill: TypeAlias = float | tuple[float, ...] | str
REFLECT = "reflect"
"""The fill that goes on with the image itself, mirrored."""


@runtime_checkable
class Warp(Protocol):
    """A step that moves pixels. Any object with this one method may stand in a list of steps.

    `maps` gives one affine map per image, from the coordinates of its output to those of its input: a tensor
    (count, 3, 3) on the CPU that is multiplied with (x, y, 1). Coordinates are pixels of the image that the
    step is given, x to the right and y downwards, 0 in the middle: its frame spans [-width/2, width/2] and
    [-height/2, height/2]. Output and input have the same frame; that the view is made at another resolution
    is not the warp's concern. Draw from `generator` (a CPU generator) and nothing else.

    An attribute `fill` (a brightness in [0, 1], or a tuple of one per channel) is what shows where a map
    leaves the frame; black without it. With the fill "reflect" it is the image, mirrored at its outermost
    pixels.

    Example:
        >>> class Zoom:
        ...     def maps(self, generator, count, height, width):
        ...         maps = torch.eye(3).repeat(count, 1, 1)
        ...         maps[:, :2] *= 0.5 + 0.5 * torch.rand(count, 1, 1, generator=generator)
        ...         return maps
    """

    def maps(self, generator: Generator, count: int, height: int, width: int) -> Tensor:
        """(count, 3, 3): output coordinates to input coordinates, in pixels about the middle."""


@runtime_checkable
class Colour(Protocol):
    """A step that recolours pixels linearly. Any object with this one method may stand in a list of steps.

    `matrices` gives one matrix per image, from a pixel's channels before to those after: a tensor on the CPU,
    (count, channels, channels + 1), that is multiplied with (channels of the pixel, 1), all in [0, 1]; or
    (count, channels, 2 * channels + 1), multiplied with (channels of the pixel, 1, means of the image's
    channels). Consecutive ones are multiplied into one, and the result is clamped to [0, 1] once, at the end.
    Draw from `generator` (a CPU generator) and nothing else.

    Example:
        >>> class Redden:
        ...     def matrices(self, generator, count, channels):
        ...         matrices = torch.eye(channels, channels + 1).repeat(count, 1, 1)
        ...         matrices[:, 0, -1] = 0.1 * torch.rand(count, generator=generator)
        ...         return matrices
    """

    def matrices(self, generator: Generator, count: int, channels: int) -> Tensor:
        """(count, channels, channels + 1) or (count, channels, 2 * channels + 1)."""


@runtime_checkable
class Act(Protocol):
    """A step that does more than move or recolour pixels, and draws from the generator that it is given."""

    def act(self, images: Tensor, labels: Tensor, *, classes: int, generator: Generator) -> Batch:
        """float (B, C, H, W) in [0, 1] and labels (B,) or (B, K) to the same."""


Step: TypeAlias = Warp | Colour | Act | Callable[..., Any]
"""What may stand in a list of steps; a callable is called as step(images, labels)."""


@runtime_checkable
class Filling(Protocol):
    """A warp that says what shows where it leaves the frame; see `Warp`."""

    @property
    def fill(self) -> Fill:
        """A brightness in [0, 1], one for each channel, or "reflect"."""
        ...


def fill_of(step: object) -> Fill:
    """What a step shows where it leaves the frame: black, unless it says otherwise."""
    return step.fill if isinstance(step, Filling) else 0.0


def check_channels(step: object, paint: object, channels: int) -> None:
    """Refuse a colour of another number of channels than the images that meet it. Raises ValueError."""
    if isinstance(paint, tuple) and len(paint) not in (1, channels):
        raise ValueError(
            f"{step!r} fills with {len(paint)} channels but the images have {channels}: give a single number"
        )


def check_colours(step: object, channels: int) -> None:
    """Refuse, for a step that knows red, green and blue, images of other channels. Raises ValueError."""
    if channels not in (1, 3):
        raise ValueError(
            f"{step!r} recolours grey or RGB images, and these have {channels} channels: leave it out"
        )


@runtime_checkable
class Fusable(Protocol):
    """A warp or colour step that says whether views on a GPU may be compiled with it.

    Where `fused` is true, `maps` or `matrices` get in place of a generator what `augment.draw` can draw from,
    make their tensors on its `device`, and can be traced by `torch.compile`. They draw as many numbers for
    each image, and equal steps do the same. A subclass that writes `maps` or `matrices` says `fused` anew.

    Example:
        >>> class Zoom:
        ...     fused = True
        ...     def maps(self, source, count, height, width):
        ...         maps = torch.eye(3, device=source.device).repeat(count, 1, 1)
        ...         maps[:, :2] *= draw.uniform(source, (count, 1, 1), 0.5, 1.0)
        ...         return maps
    """

    fused: bool


def fuses(step: object) -> bool:
    """Whether a step is `Fusable` and says so of the `maps` or `matrices` that it has."""
    if not (isinstance(step, Fusable) and step.fused and isinstance(step, Hashable)):
        return False
    owners = (vars(owner) for owner in type(step).__mro__)
    return next(("fused" in own for own in owners if "maps" in own or "matrices" in own), False)


@runtime_checkable
class Checking(Protocol):
    """A step that knows what it cannot work with, as a teacher of other classes does."""

    def ready(self, data: Any) -> None:
        """Refuse, with a ValueError, the `Data` of a training that this step cannot be a part of."""


def check_data(step: object, data: object) -> None:
    """Let a step that is `Checking` refuse the data that it cannot work with."""
    if isinstance(step, Checking):
        step.ready(data)


@dataclass(frozen=True, eq=False)
class Place:
    """Where in a training a batch is: `rows` int64 (B,), its images' positions in the training split.

    `passes` int64 (B,) counts the passes over the split before the one that shows the image now (the epochs,
    where an epoch is one pass). `seed` is one number for the whole training. All are on the CPU.
    """

    rows: Tensor
    passes: Tensor
    seed: int


@runtime_checkable
class Placed(Protocol):
    """A step that wants to know the place of each batch. Any object with this one method is one.

    It is asked by the Trainer for training views, and answers an ordinary step for that batch alone; nothing
    is stored, so that any batch can be made again. Whoever else calls `view` (a preview, a test) knows of no
    place, so that the object should be an ordinary step as well, for such calls.
    """

    def placed(self, place: Place) -> Any:
        """The step that acts on the batch at this place."""


@runtime_checkable
class ActsAlone(Protocol):
    """A step that says whether it acts on each image by itself and draws nothing, as a teacher does."""

    acts_alone: bool


def acts_alone(step: object) -> bool:
    """Whether what a step makes of an image depends on that image alone."""
    return isinstance(step, ActsAlone) and step.acts_alone


@runtime_checkable
class Teaching(Protocol):
    """A step that asks teachers: networks beside the one that learns, whose time is told apart."""

    def teaching_macs(self, resolution: int) -> int:
        """Multiply-accumulates of all teachers for one view of so many pixels a side."""


def teaching(steps: Iterable[object]) -> list[Teaching]:
    """Those of the steps that ask teachers."""
    return [step for step in steps if isinstance(step, Teaching)]


def at_place(steps: Sequence[Any], place: Place) -> tuple[Any, ...]:
    """The steps as they act on the batch at this place."""
    return tuple(step.placed(place) if isinstance(step, Placed) else step for step in steps)


def listed(owner: str, name: str, given: object) -> tuple[Step, ...]:
    """The steps of `owner`'s list `name`. Raises ValueError for anything but a list of steps."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(f"{owner}'s {name} should be a list of steps such as [Flip()], not {given!r}")
    for step in given:
        if isinstance(step, type):
            raise ValueError(
                f"{owner}'s {name} holds the class {step.__name__}; call it: {step.__name__}(...)"
            )
        if not (callable(step) or isinstance(step, Warp | Colour | Act)):
            raise ValueError(
                f"{owner}'s {name} should hold steps such as Flip() or callables "
                f"(images, labels) -> (images, labels), not {step!r}"
            )
    return tuple(given)
