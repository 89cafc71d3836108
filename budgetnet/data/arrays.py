"""Data out of arrays that the user already holds, and scikit-learn's handwritten digits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from budgetnet.data.choose import HeldOut, split
from budgetnet.data.error import DataError
from budgetnet.data.remarks import remarked
from budgetnet.data.splits import Data, Split

Images = Tensor | npt.NDArray[Any]
Labels = Tensor | npt.NDArray[Any] | Sequence[int] | Sequence[str]


def arrays(
    images: Images,
    labels: Labels,
    *,
    val: tuple[Images, Labels] | None = None,
    test: tuple[Images, Labels] | None = None,
    held_out: HeldOut = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> Data:
    """Return data from NumPy arrays or tensors (N, H, W), (N, H, W, C) or (N, C, H, W), C being 1 or 3.

    Images are uint8, shared and not copied where the layout allows, or floats in [0, 1], which are rounded
    to uint8. Labels are whole numbers from 0, or names. `classes` gives the names in order; by default
    names are sorted, and numbers name themselves. Either `val` is given, or `held_out` (as in `split`), or
    neither. Raises `DataError`.

        data = arrays(photos, species, held_out=0.2)
    """
    if val is not None and held_out is not None:
        raise DataError("val and held_out were both given: leave one of them out")
    parts = {"train": (images, labels), "val": val, "test": test}
    given = {name: part for name, part in parts.items() if part is not None}
    stated = {name: _labels(part[1], name) for name, part in given.items()}
    names = _classes(stated, classes)
    splits = {}
    for name, part in given.items():
        stored = pixels(part[0], name)
        if len(stored) != len(stated[name]):
            raise DataError(
                f"{name} has {len(stored):,} images and {len(stated[name]):,} labels: give one for each"
            )
        splits[name] = Split(stored, _numbers(stated[name], names, name), torch.arange(len(stored)))
    train, chosen = splits["train"], splits.get("val")
    if held_out is not None:
        train, chosen = split(train, held_out, seed, classes=names)
    return remarked(Data(train, chosen, splits.get("test"), names, "arrays"))


def digits(*, held_out: HeldOut = 0.2, seed: int = 0) -> Data:
    """Return scikit-learn's 1,797 handwritten digits: images uint8 (N, 1, 8, 8), 0 to 255, ten classes.

    Needs no network. `held_out` and `seed` are as in `split`. Raises `DataError` without scikit-learn.

    Reference: https://archive.ics.uci.edu/dataset/80 (Alpaydin and Kaynak, 1998).
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("digits needs scikit-learn: pip install 'budgetnet[demo]'") from None
    bunch = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * 255 / 16).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    names = tuple(str(digit) for digit in range(10))
    train, val = split(Split(images, labels, torch.arange(len(images))), held_out, seed, classes=names)
    return remarked(Data(train, val, None, names, "digits"))


def _tensor(values: Images) -> Tensor:
    """Return a tensor over the same memory where there can be one."""
    if isinstance(values, Tensor):
        return values.detach()
    if (
        not values.flags.writeable
        or any(stride < 0 for stride in values.strides)
        or values.dtype.byteorder == ">"
    ):
        # torch cannot share read-only memory without a warning, nor flipped arrays, nor foreign byte orders
        # at all.
        values = values.astype(values.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(values)


def pixels(given: Images, name: str) -> Tensor:
    """Return images in any layout that `arrays` takes as uint8 (N, C, H, W).

    Raises `DataError`, calling them the images of `name`.
    """
    if not isinstance(given, Tensor | np.ndarray):
        raise DataError(
            f"the images of {name} are a NumPy array or a tensor, but found {type(given).__name__}"
        )
    found = f"{str(given.dtype).removeprefix('torch.')} {tuple(given.shape)}"
    layouts = "(N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels"
    if given.ndim not in (3, 4) or 0 in given.shape or str(given.dtype) == "object":
        raise DataError(f"the images of {name} are {layouts}, but found {found}")
    images = _tensor(given) if _is_sharable(given) else None
    if images is not None and images.is_floating_point():
        images = _rounded(images, name)
    if images is None or images.dtype != torch.uint8:
        raise DataError(
            f"the images of {name} are uint8 (0 to 255) or floats in [0, 1], but found {found}: convert them"
        )
    if images.ndim == 3:
        return images.unsqueeze(1).contiguous()
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if not first and not last:
        raise DataError(f"the images of {name} are {layouts}, but found {found}: drop the other channels")
    if first and last:
        raise DataError(
            f"the images of {name} may be read as (N, H, W, C) or (N, C, H, W), found {found}: make a Split"
        )
    return (images if first else images.permute(0, 3, 1, 2)).contiguous()


def _is_sharable(given: Images) -> bool:
    return isinstance(given, Tensor) or given.dtype.name in ("uint8", "float16", "float32", "float64")


def _rounded(images: Tensor, name: str) -> Tensor:
    """Return floats in [0, 1] as uint8, a bounded number of images at a time."""
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        if low >= 0 and high <= 255:
            way = "they look like 0 to 255, so make them uint8"
        elif low < 0:
            way = "undo their normalisation, which belongs in the model"
        else:
            way = "scale them"
        raise DataError(f"the floats of {name}'s images lie in [0, 1], but found {low:g} ... {high:g}: {way}")
    out = torch.empty(images.shape, dtype=torch.uint8, device=images.device)
    for start in range(0, len(images), 1024):
        out[start : start + 1024] = images[start : start + 1024].double().mul(255).round()
    return out


def _labels(given: Labels, name: str) -> npt.NDArray[Any]:
    """Return labels (N,) as an array of whole numbers or of strings."""
    values = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if values.dtype == object and all(isinstance(value, str) for value in values.flat):
        values = values.astype(str)
    if values.ndim != 1 or values.dtype.kind not in "iuU":
        found = f"{values.dtype} {values.shape}"
        raise DataError(
            f"the labels of {name} are (N,) numbers or names, but found {found}: give one for each image"
        )
    return values


def _classes(stated: dict[str, npt.NDArray[Any]], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the classes, from what is given or from the labels."""
    kinds = {values.dtype.kind == "U" for values in stated.values()}
    if len(kinds) > 1:
        raise DataError(
            "some labels are names and some are numbers: give the same kind for train, val and test"
        )
    if classes is not None:
        return tuple(classes)
    if kinds == {True}:
        return tuple(sorted({str(value) for values in stated.values() for value in np.unique(values)}))
    return tuple(
        str(label) for label in range(max(int(values.max(initial=0)) for values in stated.values()) + 1)
    )


def _numbers(stated: npt.NDArray[Any], classes: tuple[str, ...], name: str) -> Tensor:
    """Return labels int64 (N,) in 0 ... K - 1."""
    if stated.dtype.kind == "U":
        places = {known: place for place, known in enumerate(classes)}
        used, positions = np.unique(stated, return_inverse=True)
        unknown = [str(value) for value in used if str(value) not in places]
        if unknown:
            raise DataError(
                f"{name} has the label {unknown[0]!r}, which is none of the classes {', '.join(classes)[:80]}"
            )
        return torch.tensor([places[str(value)] for value in used])[torch.from_numpy(positions)]
    wrong = stated[(stated < 0) | (stated >= len(classes))]
    if len(wrong):
        raise DataError(
            f"{name} has the label {int(wrong[0])}, outside 0 ... {len(classes) - 1}: count from 0"
        )
    return torch.from_numpy(stated.astype(np.int64))
