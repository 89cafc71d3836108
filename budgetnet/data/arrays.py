"""Data out of arrays that the user already holds, and scikit-learn's handwritten digits."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from budgetnet.data.choose import HeldOut, split
from budgetnet.data.data import Data, remarked, undrawn
from budgetnet.data.disk import CHUNK, File, OnDisk, fits_memory
from budgetnet.data.kinds import DataError, Finding, sentences
from budgetnet.data.labels import Labels, dense, grouped, named, numbers, stated, unmasked
from budgetnet.data.mapped import gathered, mapped
from budgetnet.data.source import cache_folder
from budgetnet.data.splits import Split
from budgetnet.text import counted
from budgetnet.values import described, whole

Images = Tensor | npt.NDArray[Any]
# What still rounds to 0 or to 255.
EDGE = 0.499 / 255


def arrays(
    images: Images,
    labels: Labels,
    *,
    val: tuple[Images, Labels] | None = None,
    test: tuple[Images, Labels] | None = None,
    held_out: HeldOut = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    groups: Sequence[object] | None = None,
    channels: int | None = None,
) -> Data:
    """Return data from NumPy arrays or tensors (N, H, W), (N, H, W, C) or (N, C, H, W), C being 1 or 3.

    Images are uint8, shared and not copied where the layout allows, or floats in [0, 1], which are rounded
    to uint8. Another C is said by `channels`. A memory map (`np.load(path, mmap_mode="r")`) that does not fit
    into memory stays in its file, and each batch is read from there. Labels are whole numbers from 0, or
    names. `classes` gives the names in order; by default names are sorted, and numbers name themselves, up to
    1,000 or ten for each one that is used. Either `val` is given, or `held_out` (as in `split`), or neither.
    `groups` are those of the images, one for each (a patient, a video): whole groups are held out. Raises
    `DataError`.

        data = arrays(photos, species, held_out=0.2)
    """
    if val is not None and held_out is not None:
        raise DataError("val and held_out were both given: leave one of them out")
    parts = {"train": (images, labels), "val": val, "test": test}
    given = {name: _pair(part, name) for name, part in parts.items() if part is not None}
    values = {name: stated(part[1], name) for name, part in given.items()}
    names = named(values, classes)
    splits = {}
    notes: list[str] = []
    findings: list[Finding] = []
    for name, part in given.items():
        stored = held(part[0], name, channels)
        if len(stored) != len(values[name]):
            raise DataError(
                f"{name} has {len(stored):,} images and {len(values[name]):,} labels: give one for each"
            )
        splits[name] = Split(stored, numbers(values[name], names, name), torch.arange(len(stored)))
    train, chosen = splits["train"], splits.get("val")
    if groups is not None:
        train = replace(train, groups=grouped(groups, "train"))
    if held_out is not None:
        both = train
        train, chosen = split(both, held_out, seed, classes=names)
        findings = undrawn(both, chosen, names)
        notes += sentences(findings)
    test_split = splits.get("test")
    data = Data(train, chosen, test_split, names, "arrays", notes=tuple(notes), findings=tuple(findings))
    return remarked(data)


def held(given: Images, name: str, channels: int | None = None) -> Tensor | OnDisk:
    """Return what `pixels` does; of a memory map that does not fit into memory, in the file that it shows."""
    if channels is not None:
        whole("channels", channels)
    source = mapped(given)
    if source is None or not isinstance(given, np.ndarray) or not len(given):
        return pixels(given, name, channels).cpu()
    first = pixels(given[:1], name, channels)
    size = first.numel() * len(given)
    if fits_memory(size):
        return pixels(given, name, channels).cpu()
    if source.offset is not None:
        item = given.shape[1:] if given.ndim == 4 else (1, *given.shape[1:])
        axes = (0, 1, 2) if item == first.shape[1:] else (2, 0, 1)
        file = File(source.path, source.offset, len(given), tuple(item), axes)
        return OnDisk([file], cache=cache_folder(None))
    step = max(1, CHUNK // first.numel())
    parts = (pixels(given[at : at + step], name, channels) for at in range(0, len(given), step))
    return gathered(parts, len(given))


def _pair(part: Any, name: str) -> tuple[Images, Labels]:
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise DataError(f"{name} should be a pair (images, labels), not {type(part).__name__}: give both")
    return part[0], part[1]


def digits(*, held_out: HeldOut = 0.2, seed: int = 0) -> Data:
    """Return scikit-learn's 1,797 handwritten digits: images uint8 (N, 1, 8, 8), 0 to 255, ten classes.

    Needs no network. `held_out` and `seed` are as in `split`. Raises `DataError` without scikit-learn.

    Reference: https://archive.ics.uci.edu/dataset/80 (Alpaydin and Kaynak, 1998).
    """
    sklearn = find_spec("sklearn")
    if sklearn is None or sklearn.origin is None:
        raise DataError("digits needs scikit-learn: pip install 'budgetnet[demo]'")
    # As load_digits reads them, whose import takes as long as torch's.
    table = np.loadtxt(Path(sklearn.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = torch.from_numpy(np.rint(table[:, :-1] * 255 / 16).astype(np.uint8)).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(table[:, -1]).long()
    names = tuple(str(digit) for digit in range(10))
    train, val = split(Split(images, labels, torch.arange(len(images))), held_out, seed, classes=names)
    return remarked(Data(train, val, None, names, "digits"))


def _tensor(values: Images, what: str) -> Tensor:
    """Return a tensor over the same memory where there can be one."""
    if isinstance(values, Tensor):
        return dense(values, what)
    values = unmasked(values, what)
    if (
        not values.flags.writeable
        or any(stride < 0 for stride in values.strides)
        or values.dtype.byteorder == ">"
    ):
        # torch cannot share read-only memory without a warning, nor flipped arrays, nor foreign byte orders
        # at all.
        values = values.astype(values.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(values)


def pixels(given: Images, name: str, channels: int | None = None) -> Tensor:
    """Return images in any layout that `arrays` takes as uint8 (N, C, H, W), C being `channels`, else 1 or 3.

    Raises `DataError`, calling them the images of `name`.
    """
    if not isinstance(given, Tensor | np.ndarray):
        raise DataError(
            f"the images of {name} are a NumPy array or a tensor, but found {type(given).__name__}: make one "
            "by np.stack(images)"
        )
    what = f"the images of {name}"
    if given.ndim and not len(given):
        raise DataError(f"{name} has no images: give some, or leave it out")
    if isinstance(given, Tensor):
        given = dense(given, what)
    kind = described(given)
    allowed = (1, 3) if channels is None else (channels,)
    counts = "1 or 3 channels" if channels is None else counted(channels, "channel")
    layouts = f"(N, H, W), (N, H, W, C) or (N, C, H, W) with {counts}"
    if given.ndim not in (3, 4) or 0 in given.shape or str(given.dtype) == "object":
        way = "reshape them to (N, H, W)" if given.ndim == 2 else "give all of them, of one size, in one"
        raise DataError(f"{what} are {layouts}, but found {kind}: {way}")
    images = _tensor(given, what) if _is_sharable(given) else None
    if images is not None and images.is_floating_point():
        images = _rounded(images, name)
    if images is None or images.dtype != torch.uint8:
        raise DataError(
            f"{what} are uint8 (0 to 255) or floats in [0, 1], but found {kind}: {_conversion(given)}"
        )
    if images.ndim == 3:
        images = images.unsqueeze(1)
    first, last = images.shape[1] in allowed, images.shape[3] in allowed
    if not first and not last:
        way = "say how many by channels=, or drop" if channels is None else "drop"
        raise DataError(f"{what} are {layouts}, but found {kind}: {way} the other channels")
    if first and last and given.ndim == 4:
        raise DataError(f"{what} may be read as (N, H, W, C) or (N, C, H, W), found {kind}: make a Split")
    return (images if first else images.permute(0, 3, 1, 2)).contiguous()


def _is_sharable(given: Images) -> bool:
    name = str(given.dtype).removeprefix("torch.") if isinstance(given, Tensor) else given.dtype.name
    return name in ("uint8", "float16", "bfloat16", "float32", "float64")


def _conversion(given: Images) -> str:
    """Return the advice that turns these numbers into pixels."""
    kind = str(given.dtype).removeprefix("torch.")
    as_bytes = "images.to(torch.uint8)" if isinstance(given, Tensor) else "images.astype('uint8')"
    if kind == "bool":
        return f"give {as_bytes} * 255"
    if re.fullmatch(r"u?int(8|16|32|64)", kind) is None:
        return "convert them"
    values = given.cpu().numpy() if isinstance(given, Tensor) else given
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high <= 255:
        return f"give {as_bytes}"
    return f"bring {low:,} ... {high:,} to 0 ... 255 first"


def _rounded(images: Tensor, name: str) -> Tensor:
    """Return floats in [0, 1] as uint8, a bounded number of images at a time.

    What a resize or a division leaves a rounding error outside is 0 or 255, too.
    """
    low, high = float(images.min()), float(images.max())
    if not (low >= -EDGE and high <= 1 + EDGE):
        raise DataError(
            f"the floats of {name}'s images lie in [0, 1], but found {low:g} ... {high:g}: "
            f"{_scaling(low, high)}"
        )
    out = torch.empty(images.shape, dtype=torch.uint8, device=images.device)
    for start in range(0, len(images), 1024):
        out[start : start + 1024] = images[start : start + 1024].double().mul(255).round().clamp(0, 255)
    return out


def _scaling(low: float, high: float) -> str:
    """Return the advice that brings floats of this range into [0, 1]."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "drop or mend the images with NaN or infinity"
    if low >= -0.1 and high <= 1.1:
        return "give images.clip(0, 1)"
    if low < 0:
        return "undo their normalisation, which belongs in the model"
    if 2 <= high <= 255.5:
        return "they look like 0 to 255, so make them uint8"
    return "scale them"
