"""Labels as users hold them (numbers, names, tensors, columns) as class numbers from 0, and class names."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from budgetnet.data.kinds import DataError

Labels: TypeAlias = Tensor | npt.NDArray[Any] | Sequence[int] | Sequence[str]

# Numbers may name classes that have no image; of more than this, and ten for each that has, they are no
# classes but something else, such as identities.
UNUSED, TIMES = 1000, 10
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
SHOWN = 5
"""How many names of classes a sentence lists."""

# How users bring labels to one dimension, to numbers from one-hot rows, and to whole numbers.
ARRAY = ("labels.ravel()", "labels.argmax(axis=1)", "labels.astype(int)")
TENSOR = ("labels.flatten()", "labels.argmax(dim=1)", "labels.long()")


def stated(given: Labels, name: str) -> npt.NDArray[Any]:
    """Return labels (N,) as an array of whole numbers or of strings. Raises `DataError` for other things."""
    values = _array(given, name)
    if values.dtype.kind in "OST":
        values = _plain(values, name)
    if values.ndim != 1 or values.dtype.kind not in "iuU":
        raise DataError(
            f"the labels of {name} are (N,) numbers or names, but found {values.dtype} {values.shape}: "
            f"{_conversion(values, TENSOR if isinstance(given, Tensor) else ARRAY)}"
        )
    return values


def named(parts: dict[str, npt.NDArray[Any]], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the classes, from what is given or from the labels of all parts."""
    kinds = {values.dtype.kind == "U" for values in parts.values()}
    if len(kinds) > 1:
        raise DataError(
            "some labels are names and some are numbers: give the same kind for train, val and test"
        )
    if classes is not None:
        if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
            raise DataError(f"classes are names in order, such as ['ant', 'bee'], but found {classes!r:.60}")
        return tuple(map(str, classes))
    used = {value for values in parts.values() for value in np.unique(values).tolist()}
    if kinds == {True}:
        return tuple(sorted(used))
    highest = max(used, default=0)
    if highest >= max(UNUSED, TIMES * len(used)):
        raise DataError(
            f"labels that are numbers should count the classes from 0, but these {len(used):,} reach "
            f"{highest:,}: pass them as names, or np.unique(labels, return_inverse=True)[1]"
        )
    return tuple(str(label) for label in range(highest + 1))


def numbers(values: npt.NDArray[Any], classes: tuple[str, ...], name: str) -> Tensor:
    """Return labels int64 (N,) in 0 ... K - 1."""
    if values.dtype.kind == "U":
        index = {known: number for number, known in enumerate(classes)}
        used, positions = np.unique(values, return_inverse=True)
        unknown = [str(value) for value in used if str(value) not in index]
        if unknown:
            raise DataError(
                f"{name} has the label {unknown[0]!r}, which is none of the classes {', '.join(classes)[:80]}"
            )
        return torch.tensor([index[str(value)] for value in used])[torch.from_numpy(positions)]
    wrong = values[(values < 0) | (values >= len(classes))]
    if len(wrong):
        raise DataError(
            f"{name} has the label {int(wrong[0])}, outside 0 ... {len(classes) - 1}: count from 0"
        )
    return torch.from_numpy(values.astype(np.int64))


def dense(given: Tensor, what: str) -> Tensor:
    """Return a tensor whose values lie one by one in memory, of whichever device. Raises `DataError`."""
    kind, way = "", "tensor.to_dense()"
    if given.device.type == "meta":
        kind, way = "a meta tensor, which holds no values", "one that holds them"
    elif given.is_quantized:
        kind, way = "a quantized one", "tensor.dequantize()"
    elif given.layout != torch.strided:
        kind = f"one of layout {str(given.layout).removeprefix('torch.')}"
    if kind:
        raise DataError(f"{what} should be a plain tensor, not {kind}: pass {way}")
    return given.detach()


def unmasked(given: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    """Return an array all of whose values count. Raises `DataError` where some are masked."""
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise DataError(f"{what} should have all their values, but some are masked: drop or fill these")
    return np.asarray(given)


def _array(given: Labels, name: str) -> npt.NDArray[Any]:
    what = f"the labels of {name}"
    if isinstance(given, Tensor):
        values = dense(given, what).cpu()
        # NumPy has no bfloat16; floats are refused anyway.
        return (values.float() if values.is_floating_point() else values).numpy()
    if isinstance(given, np.ndarray):
        return unmasked(given, what)
    if isinstance(given, list | tuple) and not given:
        return np.zeros(0, np.int64)
    try:
        # NumPy would make a name of a missing one, "nan" or "None", where the others are names.
        mixed = isinstance(given, list | tuple) and any(isinstance(label, str) for label in given)
        return np.asarray(given, dtype=object if mixed else None)
    except Exception:  # Rows of different lengths, tensors elsewhere, tables: each raises what it likes.
        raise DataError(
            f"{what} are (N,) numbers or names, but found {type(given).__name__} of mixed things: give one "
            "number or name for each image"
        ) from None


def _plain(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return an array of Python's strings, bytes or whole numbers as NumPy's own, or as it was."""
    if values.dtype.kind == "S":
        try:
            return np.char.decode(values, "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"the labels of {name} should be text, but found bytes: decode them") from None
    flat = values.ravel().tolist()
    if all(isinstance(value, str) for value in flat):
        return np.array(flat, dtype=str).reshape(values.shape)
    if all(isinstance(value, Integral) and not isinstance(value, bool) for value in flat):
        if any(abs(int(value)) >= 2**63 for value in flat):
            raise DataError(f"the labels of {name} should count the classes from 0: pass them as names")
        return values.astype(np.int64)
    return values


def _conversion(values: npt.NDArray[Any], says: tuple[str, str, str]) -> str:
    """Return the advice that turns these values into labels."""
    flat, single, whole = says
    if values.ndim == 2 and values.shape[1] == 1:
        return f"give {flat}"
    if values.ndim == 2 and values.dtype.kind in "iufb":
        return f"of one-hot rows give {single}"
    if values.ndim != 1:
        return "give one for each image"
    if values.dtype.kind == "b":
        return f"give {whole}"
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.floor(values)).all():
        return f"give {whole}"
    missing = [k for k, value in enumerate(values.tolist()) if _is_missing(value)]
    return f"image {missing[0]} has none, so drop it" if missing else "give one for each image"


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):  # pandas' NA is neither true nor false.
        return True


def grouped(groups: object, name: str) -> tuple[str, ...]:
    """Return the groups of the images of `name` as text. Raises `DataError` where one is missing."""
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        raise DataError(f"groups are one for each image of {name}, not {groups!r:.60}: give a list of them")
    return tuple(group_of(group, f"{name}[{at}]") for at, group in enumerate(groups))


def group_of(group: object, image: str) -> str:
    """Return a group as text. Raises `DataError` where there is none."""
    if _is_missing(group) or group == "":
        raise DataError(f"each image should have a group, and {image} has none: give it one of its own")
    return str(group)


def listed(names: Sequence[str]) -> str:
    """The first few names in words."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def class_difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """How two lists of names differ, in words: which only one of them has, or where the order differs."""
    lost = [name for name in theirs if name not in set(ours)]
    new = [name for name in ours if name not in set(theirs)]
    if lost or new:
        sides = ((new, "here"), (lost, "there"))
        return " and ".join(f"{listed(names)} only {where}" for names, where in sides if names)
    at = next((k for k, (one, other) in enumerate(zip(ours, theirs)) if one != other), 0)
    return f"another order, class {at} being {ours[at]} here and {theirs[at]} there"


def as_number(name: str) -> Decimal | None:
    """The number that a name writes out, None where it is another name."""
    return Decimal(name) if _NUMBER.fullmatch(name) else None


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the order of what they denote where all are numbers, else of their letters."""
    ordered = sorted(names)
    numbers = {name: number for name in ordered if (number := as_number(name)) is not None}
    return sorted(ordered, key=numbers.__getitem__) if len(numbers) == len(ordered) else ordered


def is_numbered(names: Sequence[str]) -> bool:
    """Whether classes are only called by their numbers, as those of `arrays` with whole labels are."""
    return all(name == str(number) for number, name in enumerate(names))


def renumbered(labels: Tensor, names: Sequence[str], others: Sequence[str]) -> Tensor:
    """Labels (N,) that count in `names` as they count in `others`; -1, no label, stays.

    Raises DataError for names that labels have and `others` does not.
    """
    index = {name: number for number, name in enumerate(others)}
    used = torch.unique(labels).tolist()
    unknown = [names[label] for label in used if label >= 0 and names[label] not in index]
    if unknown:
        are = "label {} is" if len(unknown) == 1 else "labels {} are"
        raise DataError(f"the {are.format(listed(unknown))} none of the classes {listed(others)}")
    table = torch.tensor([*(index.get(name, -1) for name in names), -1], device=labels.device)
    return table[labels]
