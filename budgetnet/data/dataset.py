"""Data out of any dataset (torch's, torchvision's, Hugging Face's): whatever gives images and labels."""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, Unpack, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from budgetnet.data.arrays import pixels
from budgetnet.data.choose import HeldOut, fifth, left_over, split
from budgetnet.data.data import Data, remarked, undrawn
from budgetnet.data.disk import OnDisk
from budgetnet.data.kinds import DataError, sentences
from budgetnet.data.labels import named, numbers, stated
from budgetnet.data.mapped import gathered
from budgetnet.data.parts import ORDER, part_of
from budgetnet.data.progress import Progress
from budgetnet.data.splits import Split
from budgetnet.text import inline
from budgetnet.values import nearest, one_of, whole

# What columns are called, the likeliest first.
IMAGES = ("image", "img", "images", "picture", "photo", "pixel_values", "x")
LABELS = ("label", "labels", "target", "class", "fine_label", "y")
UNLABELLED = ("unlabelled", "unlabeled", "unsupervised")
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


@runtime_checkable
class Classed(Protocol):
    """As torchvision's datasets: with the names of the classes."""

    @property
    def classes(self) -> Any: ...


@runtime_checkable
class Nested(Protocol):
    """As torch's Subset: some of the items of another dataset."""

    @property
    def dataset(self) -> Any: ...


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


def dataset(
    given: Items | Mapping[str, Items], *, size: int | None = None, **options: Unpack[Options]
) -> Data:
    """Return data from any dataset: torch's, torchvision's, Hugging Face's, or a list of (image, label).

    `given` is one, or a mapping of train, and perhaps val and test, to some (by these names or others that
    are common, as a DatasetDict has them). An item is an (image, label), or a mapping such as {"image": ...,
    "label": ...}, whose columns `image` and `label` name where they are called otherwise. Images are PIL's,
    arrays or tensors (H, W), (H, W, C) or (C, H, W), uint8 or floats in [0, 1], of 1 or 3 channels or of as
    many as `channels` says; labels are whole numbers or names. Each item is asked for once, in order, so
    leave random transforms to the recipe. With a `size` images come to size x size as photos in `folder` do,
    "crop" or "squash"; else they must be of one size. They are kept in memory where they fit, else in a file
    in `cache` that ends with the process. `held_out` (a fifth by default, without val), `per_class` and
    `seed` are as in `folder`; `unlabelled` is a dataset without labels, or True for what `per_class` leaves
    over; `groups` are a column, or one for each training item. Raises `DataError`.

        data = dataset(datasets.load_dataset("beans"), size=128)
        data = dataset(torchvision.datasets.Flowers102("data"), size=128, held_out=0.1)
    """
    options = _checked(size, options)
    parts, more = _parts(given), options.get("unlabelled", False)
    if not isinstance(more, bool):
        parts["unlabelled"] = more
    names = options.get("classes") or _class_names(parts["train"], options)
    read = {name: _read(items, _Reader(name, size, options)) for name, items in parts.items()}
    given_groups = options.get("groups", ())
    if not isinstance(given_groups, str):
        read["train"].groups += map(str, given_groups)
    labels = {name: stated(part.labels, name) for name, part in read.items() if name != "unlabelled"}
    classes = named(labels, names)
    splits = {
        name: Split(
            part.images,
            numbers(labels[name], classes, name) if name in labels else torch.full((len(part.images),), -1),
            torch.arange(len(part.images)),
            groups=tuple(part.groups) or None,
        )
        for name, part in read.items()
    }
    return _data(_inner(parts["train"]), splits, classes, options)


def _data(source: object, splits: dict[str, Split], classes: tuple[str, ...], options: Options) -> Data:
    """Return the splits as data, with what is to be held out held out."""
    training, val, more = splits["train"], splits.get("val"), splits.get("unlabelled")
    share = options.get("held_out")
    if val is not None and share is not None:
        raise DataError(f"val and held_out={share!r} were both given: leave held_out out")
    if val is None and share is None:
        share = fifth(training.counts(len(classes)))
    per_class, seed = options.get("per_class"), options.get("seed", 0)
    train, drawn = split(training, share, seed, per_class=per_class, classes=classes)
    findings = tuple(undrawn(training, drawn, classes))
    if options.get("unlabelled") is True:
        more = left_over(training, train, drawn)
    notes, shape = tuple(sentences(findings)), options.get("shape", "crop")
    test, name = splits.get("test"), type(source).__name__
    data = Data(train, val or drawn, test, classes, name, more, notes, findings, shape)
    return remarked(data).in_memory()


def _checked(size: int | None, options: Options) -> Options:
    """Return the options. Raises `DataError` for values that cannot be, TypeError for names that are none."""
    for name in set(options) - set(Options.__annotations__):
        raise TypeError(f"dataset has no argument {name!r}{nearest(name, list(Options.__annotations__))}")
    try:
        one_of("shape", options.get("shape", "crop"), ("crop", "squash"))
        if size is not None:
            whole("size", size)
        if options.get("channels") is not None:
            whole("channels", options["channels"])
    except ValueError as error:
        raise DataError(str(error)) from None
    return options


def _parts(given: Items | Mapping[str, Items]) -> dict[str, Items]:
    """Return the datasets by the parts that they are, train first."""
    found: dict[str, Items] = {}
    for name, items in (given if isinstance(given, Mapping) else {"train": given}).items():
        part = "unlabelled" if str(name) in UNLABELLED else part_of(str(name))
        if part is None or part in found:
            why = "which is no name of a part" if part is None else f"{part} a second time"
            raise DataError(
                f"a mapping should give datasets for train, val and test, and this one has {name!r}, {why}: "
                'give {"train": ...} with those that you want'
            )
        if isinstance(items, type | str) or not isinstance(items, Indexed | Iterable):
            raise DataError(
                f"{part} should be a dataset, which gives items (image, label), not {items!r:.60}: make one, "
                "or see budgetnet.arrays and budgetnet.folder"
            )
        found[part] = items
    if "train" not in found:
        raise DataError(
            f"there should be a dataset for train, not for {', '.join(found) or 'none'}: name one"
        )
    return {name: found[name] for name in (*ORDER, "unlabelled") if name in found}


def _inner(items: object) -> object:
    """Return the dataset that a Subset of a Subset is of."""
    while isinstance(items, Nested):
        items = items.dataset
    return items


def _class_names(items: Items, options: Options) -> Sequence[str] | None:
    """Return the names of the classes as a dataset states them, or None."""
    source = _inner(items)
    if isinstance(source, Featured) and isinstance(source.features, Mapping):
        known = _features(source.features, "ClassLabel")
        column = options.get("label") or _column(known, LABELS)
        names = getattr(source.features.get(column), "names", None)
    else:
        names = source.classes if isinstance(source, Classed) else None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names) if len(set(names)) == len(names) else None


def _features(features: Mapping[str, Any], kind: str) -> list[str]:
    return [name for name, feature in features.items() if type(feature).__name__ == kind]


def _column(columns: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the one of the columns that is called so, or the only one; None where there is no telling."""
    called = [name for name in known if name in columns]
    return columns[0] if len(columns) == 1 else called[0] if called else None


@dataclass
class _Read:
    """What a dataset gave: images, and a label for each, and a group where they were asked for."""

    images: Tensor | OnDisk = field(default_factory=lambda: torch.empty(0))
    labels: list[Any] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)


@dataclass
class _Reader:
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
            column = stated or _column(_features(features, kind) or known, called)
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
            image = np.asarray(image, np.uint8 if isinstance(image, list) else None)
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


def _read(items: Items, reader: _Reader) -> _Read:
    """Return the images, labels and groups of a dataset."""
    known = items.features if isinstance(items, Featured) else None
    features = known if isinstance(known, Mapping) else {}
    count = len(items) if isinstance(items, Indexed) else None
    found = _Read()

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
            found.labels.append(label.item() if isinstance(label, Tensor | np.generic) else label)
            if group is not None:
                found.groups.append(str(group))
            yield made[None]
            if progress is not None:
                progress.add(1)

    shown: AbstractContextManager[Progress | None] = nullcontext()
    if count is not None and count > MANY:
        shown = Progress(f"reading {count:,} images of {reader.part}", count, unit="images")
    with shown as progress:
        found.images = gathered(images(), count, reader.options.get("cache"), what=reader.part)
    return found


def _is_photo(image: object) -> bool:
    from PIL import Image

    return isinstance(image, Image.Image)
