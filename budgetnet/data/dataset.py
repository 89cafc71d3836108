"""Data out of any dataset (torch's, torchvision's, Hugging Face's): whatever gives images and labels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, Unpack, runtime_checkable

import numpy.typing as npt
import torch
from torch import Tensor

from budgetnet.data.choose import fifth, left_over, split
from budgetnet.data.data import Data, remarked, undrawn
from budgetnet.data.items import (
    LABELS,
    Featured,
    Indexed,
    Items,
    Options,
    Reader,
    column_of,
    features_of,
    read_items,
)
from budgetnet.data.kinds import DataError, sentences
from budgetnet.data.labels import grouped, is_numbered, named, numbers, renumbered, stated
from budgetnet.data.parts import ORDER, part_of
from budgetnet.data.splits import Split
from budgetnet.values import nearest, one_of, whole

# What the images without labels may be called in a mapping.
UNLABELLED = ("unlabelled", "unlabeled", "unsupervised")


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
    given_names = options.get("classes")
    names = given_names or _class_names(parts["train"], options)
    read = {name: read_items(items, Reader(name, size, options)) for name, items in parts.items()}
    given_groups = options.get("groups", ())
    if not isinstance(given_groups, str):
        read["train"].groups += grouped(given_groups, "train")
    labels = {name: stated(part.labels, name) for name, part in read.items() if name != "unlabelled"}
    classes = named(labels, names)
    splits = {
        name: Split(
            part.images,
            _numbers(labels[name], classes, name, None if given_names else _class_names(parts[name], options))
            if name in labels
            else torch.full((len(part.images),), -1),
            torch.arange(len(part.images)),
            groups=tuple(part.groups) or None,
        )
        for name, part in read.items()
    }
    return _data(_inner(parts["train"]), splits, classes, options)


def _numbers(
    values: npt.NDArray[Any], classes: tuple[str, ...], name: str, own: Sequence[str] | None
) -> Tensor:
    """Return a part's labels as numbers of the `classes`; those that count in its `own` names go by name."""
    if own is None or values.dtype.kind == "U" or is_numbered(classes):
        return numbers(values, classes, name)
    try:
        return renumbered(numbers(values, tuple(own), name), own, classes)
    except DataError as error:
        raise DataError(f"{name} has other classes than train: {error}") from None


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
        known = features_of(source.features, "ClassLabel")
        column = options.get("label") or column_of(known, LABELS)
        names = getattr(source.features.get(column), "names", None)
    else:
        names = source.classes if isinstance(source, Classed) else None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names) if len(set(names)) == len(names) else None
