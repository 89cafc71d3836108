"""What the items of any dataset hold: an image, a label and a group each, read one after the other."""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from budgetnet.data.arrays import pixels
from budgetnet.data.choose import HeldOut
from budgetnet.data.disk import OnDisk
from budgetnet.data.kinds import DataError
from budgetnet.data.labels import group_of
from budgetnet.data.mapped import gathered
from budgetnet.data.progress import Progress
from budgetnet.text import inline

# What columns are called, the likeliest first.
IMAGES = ("image", "img", "images", "picture", "photo", "pixel_values", "x")
LABELS = ("label", "labels", "target", "class", "fine_label", "y")
# Modes of Pillow's images without colours.
GREY = ("1", "L", "I", "I;16", "I;16B", "F")
END = object()
# From so many images on it is said how far their reading is.
MANY = 5_000


@runtime_checkable
class Indexed(Protocol):
    """What gives an item for each number from 0: a list, a torch Dataset, a Hugging Face dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@runtime_checkable
class Featured(Protocol):
    """As Hugging Face's datasets: with a description of each column."""

    @property
    def features(self) -> Any: ...


Items: TypeAlias = Indexed | Iterable[Any]


class Options(TypedDict, total=False):
    """The options of `dataset`, as it says."""

    image: str
    label: str
    groups: str | Sequence[object]
    classes: Sequence[str] | None
    channels: int | None
    shape: Literal["crop", "squash"]
    held_out: HeldOut
    per_class: int | None
    seed: int
    unlabelled: bool | Any
    cache: str | os.PathLike[str] | None


def features_of(features: Mapping[str, Any], kind: str) -> list[str]:
    return [name for name, feature in features.items() if type(feature).__name__ == kind]


def column_of(columns: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the one of the columns that is called so, or the only one; None where there is no telling."""
    called = [name for name in known if name in columns]
    return columns[0] if len(columns) == 1 else called[0] if called else None


@dataclass
class Gathered:
    """What a dataset gave: images, and a label for each, and a group where they were asked for."""

    images: Tensor | OnDisk = field(default_factory=lambda: torch.empty(0))
    labels: list[Any] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)


@dataclass
class Reader:
    """Makes of each item of one dataset an image, a label and a group, and sees that all images are alike."""

    part: str
    size: int | None
    options: Options
    shape: tuple[int, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)

    def split(self, item: Any, at: int, features: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Return an item's image, label and group; None for those that it has not."""
        if isinstance(item, Mapping):
            self.columns = self.columns or self._columns(list(map(str, item)), features)
            return tuple(item.get(self.columns.get(what)) for what in ("image", "label", "groups"))  # type: ignore[return-value]
        bare = not isinstance(item, tuple | list)
        if self.part == "unlabelled":
            return (item if bare else item[0]), None, None
        if bare or len(item) != 2:
            kind = type(item).__name__ if bare else f"{len(item)} things"
            raise DataError(
                f"{self.part}[{at}] should be an (image, label), or a mapping with both, and is {kind}: wrap "
                "the dataset so that it gives these"
            )
        return item[0], item[1], None

    def _columns(self, known: list[str], features: Mapping[str, Any]) -> dict[str, str]:
        """Return the columns of image, label and group: as stated, by what they are, or by their names."""
        columns = {}
        groups = self.options.get("groups")
        for what, called, kind in (("image", IMAGES, "Image"), ("label", LABELS, "ClassLabel")):
            stated: str | None = self.options.get(what)  # type: ignore[assignment]
            column = stated or column_of(features_of(features, kind) or known, called)
            if what == "image" or self.part != "unlabelled":
                columns[what] = column or ""
        if isinstance(groups, str) and self.part != "unlabelled":
            columns["groups"] = groups
        for what, column in columns.items():
            if column not in known:
                raise DataError(
                    f"the items of {self.part} should have a column for the {what}, and have "
                    f"{', '.join(known)}: say which one it is by {what}="
                )
        return columns

    def pixels(self, image: Any, at: int) -> Tensor:
        """Return an image as uint8 (C, H, W), of the sides and channels that the first one has."""
        name = f"{self.part}[{at}]"
        many = self.options.get("channels") not in (None, 1, 3)
        made = self._photo(image) if _is_photo(image) and not many else self._array(image, name)
        shape = tuple(made.shape)
        self.shape = self.shape or shape
        if shape[0] == 1 and self.shape[0] == 3:
            made = made.expand(3, -1, -1)
        if tuple(made.shape) != self.shape:
            kinds = ["x".join(map(str, sides)) for sides in (shape, self.shape)]
            way = "channels=" if shape[1:] == self.shape[1:] else "size="
            raise DataError(f"{name} is an image of {kinds[0]}, and the first is of {kinds[1]}: give {way}")
        return made

    def _photo(self, image: Any) -> Tensor:
        """Return a Pillow image's pixels: of greys one channel, unless three are asked for."""
        from budgetnet.data.photos import photo_pixels

        channels = self.options.get("channels")
        grey = channels == 1 if channels else image.mode in GREY
        size = None if self.size is None else (self.size, self.size)
        return torch.from_numpy(photo_pixels(image, size, squash=self._squashes, grey=grey))

    def _array(self, image: Any, name: str) -> Tensor:
        from budgetnet.data.photos import fitted_pixels

        kind = type(image).__name__
        if not isinstance(image, Tensor):
            listed = isinstance(image, list | tuple)
            image = np.asarray(image)
            if listed and image.size and image.dtype.kind == "i" and 0 <= image.min() <= image.max() <= 255:
                image = image.astype(np.uint8)
        if image.ndim not in (2, 3):
            raise DataError(
                f"{name} should be an image (Pillow's, an array or a tensor), and is {kind}: give these, or "
                "say by image= which column has them"
            )
        made = pixels(image[None], name, self.options.get("channels"))[0].cpu()
        if self.size is None or made.shape[1:] == (self.size, self.size):
            return made
        return torch.from_numpy(fitted_pixels(made.numpy(), (self.size, self.size), squash=self._squashes))

    @property
    def _squashes(self) -> bool:
        return self.options.get("shape") == "squash"


def read_items(items: Items, reader: Reader) -> Gathered:
    """Return the images, labels and groups of a dataset."""
    known = items.features if isinstance(items, Featured) else None
    features = known if isinstance(known, Mapping) else {}
    count = len(items) if isinstance(items, Indexed) else None
    found = Gathered()

    def images() -> Iterator[Tensor]:
        rest = map(items.__getitem__, range(len(items))) if isinstance(items, Indexed) else iter(items)
        for at in itertools.count():
            try:
                item = next(rest, END)
                if item is END:
                    return
                image, label, group = reader.split(item, at, features)
                made = reader.pixels(image, at)
            except DataError:
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise DataError(
                    f"{reader.part}[{at}] cannot be read ({inline(reason)}): mend it, or leave it out"
                ) from error
            found.labels.append(_plain(label))
            if group is not None:
                found.groups.append(group_of(group, f"{reader.part}[{at}]"))
            yield made[None]
            if progress is not None:
                progress.add(1)

    shown: AbstractContextManager[Progress | None] = nullcontext()
    if count is not None and count > MANY:
        shown = Progress(f"reading {count:,} images of {reader.part}", count, unit="images")
    with shown as progress:
        found.images = gathered(images(), count, reader.options.get("cache"), what=reader.part)
    return found


def _plain(label: Any) -> Any:
    """Return a label as Python has it; one-hot rows as an array, which `stated` refuses in words."""
    if isinstance(label, Tensor):
        label = label.detach().cpu()
        return label.item() if label.numel() == 1 else label.numpy()
    return label.item() if isinstance(label, np.generic) else label


def _is_photo(image: object) -> bool:
    from PIL import Image

    return isinstance(image, Image.Image)
