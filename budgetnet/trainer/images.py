"""What predict is given (tensors, arrays, a Split, image files, folders) as batches of uint8 images."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from budgetnet.data import ENDINGS, DataError, Finding, OnDisk, Split, held, in_order, is_numbered, walk
from budgetnet.modelfile import Card
from budgetnet.recipe import Test
from budgetnet.text import inline

Path_: TypeAlias = str | os.PathLike[str]
Images: TypeAlias = Tensor | npt.NDArray[np.generic] | Split | Path_ | Sequence[Path_]

# Of files that cannot be read, so many are named in a refusal.
NAMED = 20


@dataclass(frozen=True)
class Files:
    """Image files in order, and what was left out on the way to them."""

    paths: tuple[Path, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Form:
    """What a file becomes: `size` (height, width), channels, and whether all of it is squeezed into that."""

    size: tuple[int, int]
    channels: int
    squash: bool = False


@dataclass(frozen=True)
class Given:
    """Batches of uint8 images (B, C, H, W), what was listed, in order, and the images' shorter side.

    `unread` fills up as the batches are drawn: the positions of what cannot be read, and why.
    """

    batches: Iterator[Tensor]
    listed: tuple[str, ...]
    size: int
    left_out: tuple[Finding, ...] = ()
    unread: dict[int, Finding] = field(default_factory=dict)
    channels: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the images that there are, in order, once all batches are drawn."""
        return tuple(name for at, name in enumerate(self.listed) if at not in self.unread)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was left out, once all batches are drawn."""
        return (*self.left_out, *self.unread.values())


def gather(
    images: Images,
    known: Card | None,
    *,
    batch_size: int,
    resolution: int | None = None,
    skip: bool = False,
) -> Given:
    """The batches of whatever `images` is, as a model with the card `known` was shown its own.

    Raises ValueError naming what cannot be used. With `skip`, files that cannot be read are left out instead.
    """
    # Of a model without a card nobody knows what it takes, but it.
    channels = known.channels if known is not None else None
    if isinstance(images, Split):
        if known is None and resolution is None:
            raise ValueError(
                "predict needs the resolution that the model learnt at: this model has no card; give "
                "resolution="
            )
        return _stored(part(images.images, known), images.names, channels, batch_size)
    alone = images[0] if isinstance(images, list | tuple) and len(images) == 1 else images
    if isinstance(alone, str | os.PathLike) and Path(alone).suffix == ".npy":
        images = _array(Path(alone))
    if isinstance(images, Tensor | np.ndarray):
        single = images.ndim == 3 and (channels or 3) in (images.shape[0], images.shape[2] if channels else 0)
        other = channels if channels not in (1, 3) else None
        stored = held(images[None] if single else images, "predict", other)
        return _stored(part(stored, known), None, channels, batch_size)
    if channels not in (None, 1, 3):
        raise ValueError(
            f"the model takes images of {channels} channels, which photos have not: give an array, or a .npy "
            "file with one"
        )
    files = image_files(_paths(images))
    form, unread = _form(known, resolution), dict[int, Finding]()
    read = _read(files.paths, form, batch_size, unread, skip=skip)
    return Given(read, tuple(map(str, files.paths)), min(form.size), files.findings, unread)


def _array(path: Path) -> npt.NDArray[np.generic]:
    """The array in a .npy file, mapped and not read. Raises ValueError for other files."""
    try:
        array: npt.NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"there is no file {inline(str(path))}") from None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{inline(str(path))} cannot be read as an array ({inline(str(error))})") from None
    return array


def _paths(images: object) -> list[Path_]:
    given = (
        [images] if isinstance(images, str | os.PathLike) or not isinstance(images, Iterable) else [*images]
    )
    paths = [path for path in given if isinstance(path, str | os.PathLike)]
    if len(paths) < len(given):
        strange = next(path for path in given if not isinstance(path, str | os.PathLike))
        kind = type(strange).__name__ if strange is images else f"a list of {type(strange).__name__}"
        raise ValueError(
            "predict takes a tensor or array of images, a Split, or paths of image files and folders, not "
            f"{kind}: give one of these"
        )
    return paths


def _form(known: Card | None, resolution: int | None) -> Form:
    """How files are read: as the model's data were stored, else straight at the resolution."""
    noted = known or Card()
    if noted.stored is not None:
        return Form(noted.stored, noted.channels, noted.shape == "squash")
    side = noted.resize if resolution is None else resolution
    if side is None:
        raise ValueError(
            "predict needs a resolution to read files at: this model has no card; give resolution="
        )
    return Form((side, side), noted.channels)


def _stored(
    images: Tensor | OnDisk, names: tuple[str, ...] | None, channels: int | None, batch_size: int
) -> Given:
    if channels is not None and images.shape[1] != channels:
        raise ValueError(f"the model takes images of {channels} channels, and these have {images.shape[1]}")
    known = names or tuple(str(k) for k in range(len(images)))
    parts = (
        in_order(images, batch_size) if isinstance(images, OnDisk) else iter(torch.split(images, batch_size))
    )
    return Given(parts, known, min(images.shape[-2:]), channels=int(images.shape[1]))


def image_files(paths: Sequence[Path_]) -> Files:
    """The image files that `paths` name: a file as it stands, a folder by the walk that `folder` takes.

    Those of a folder come in the order of their names. Raises ValueError for what is not there.
    """
    files: list[Path] = []
    findings: list[Finding] = []
    for path in map(Path, paths):
        if path.is_dir():
            walked = _walked(path)
            files += walked.paths
            findings += walked.findings
        elif path.is_file():
            files.append(path)
        else:
            raise ValueError(f"there is no image file or folder {inline(str(path))}")
    if not files:
        raise ValueError("predict was given no images")
    return Files(tuple(files), tuple(findings))


def _walked(folder: Path) -> Files:
    try:
        files = walk(folder, folder)
    except OSError as error:
        name = inline(str(error.filename))
        raise ValueError(
            f"{name} cannot be looked into ({error.strerror}): it must be yours to read"
        ) from None
    if not files.photos:
        raise ValueError(f"the folder {inline(str(folder))} holds no image files ({', '.join(ENDINGS)})")
    left_out = (finding for finding in files.findings if finding.policy == "left out")
    named = (Finding(one.kind, str(folder / one.path), one.detail) for one in left_out)
    return Files(tuple(sorted(map(Path, files.photos))), tuple(named))


def _read(
    files: Sequence[Path], form: Form, batch_size: int, unread: dict[int, Finding], *, skip: bool
) -> Iterator[Tensor]:
    """Yield what can be read; from the first file on that cannot, without `skip`, only look for more."""
    # Pillow is for files alone.
    from budgetnet.data.photos import read_photo

    for start in range(0, len(files), batch_size):
        batch = []
        for at, file in enumerate(files[start : start + batch_size], start):
            photo = read_photo(file, form.size, squash=form.squash, channels=form.channels)
            if photo.pixels is None:
                kind, detail = photo.odd[0]
                unread[at] = Finding(kind, str(file), detail)
            else:
                batch.append(torch.from_numpy(photo.pixels))
        if batch and (skip or not unread):
            yield torch.stack(batch)
    if unread and (not skip or len(unread) == len(files)):
        raise ValueError(_unreadable(list(unread.values()), len(files), skip=skip))


def _unreadable(unread: Sequence[Finding], count: int, *, skip: bool) -> str:
    named = ", ".join(f"{inline(one.path)}: {inline(one.detail)}" for one in unread[:NAMED])
    more = f", and {len(unread) - NAMED:,} more" if len(unread) > NAMED else ""
    way = "mend them" if skip else 'leave them out, or pass unreadable="skip" (--skip-unreadable)'
    return f"{len(unread):,} of {count:,} images cannot be read ({named}{more}): {way}"


def tested(known: Card | None, test: Test | None, resolution: int | None) -> tuple[Test, int]:
    """How a model is tested, and for which resolution in pixels: as asked, else as its card says.

    Raises ValueError where nobody says at which size.
    """
    known = known or Card()
    looked = test or Test(mirror=known.mirror, shift=known.shift)
    if resolution is None and looked.resize is None and looked.crop is None:
        looked = replace(looked, resize=known.resize, crop=known.crop)
    size = looked.crop or known.crop or looked.resize if resolution is None else resolution
    if size is None:
        raise ValueError(
            "this model has no card that says at which resolution it is to be tested: give resolution=, in "
            "pixels, as it learnt at"
        )
    return looked, size


def part(images: Tensor | OnDisk, known: Card | None) -> Tensor | OnDisk:
    """The part of images (N, C, H, W) that the model's own data would show of them.

    That is the largest part at the centre with the sides of its stored images, or all where they were
    squeezed. Of a model without a card nothing is known: all is shown.
    """
    height, width = images.shape[-2:]
    if known is None or known.shape == "squash":
        return images
    high, wide = known.stored or (1, 1)
    if height * wide == width * high:
        return images
    down, across = min(height, round(width * high / wide)), min(width, round(height * wide / high))
    down, across = max(1, down), max(1, across)
    top, left = (height - down) // 2, (width - across) // 2
    pixels = images.tensor() if isinstance(images, OnDisk) else images
    return pixels[..., top : top + down, left : left + across].contiguous()


def measured(split: Split, known: Card | None, classes: Sequence[str]) -> tuple[Split, tuple[str, ...]]:
    """A split as a model is measured on it: its labels as the model counts classes, and their names in order.

    `classes` name the model's outputs, else its card does, else the split. Raises ValueError for an empty
    split, images without labels, and labels of other names.
    """
    if not isinstance(split, Split):
        raise ValueError(f"a model is measured on a Split such as data.val, not on {split!r:.100}")
    if not len(split):
        raise ValueError("the split that a model is measured on should hold images, and is empty")
    lowest, highest = (int(end) for end in split.labels.aminmax())
    if lowest < 0:
        raise ValueError("a model is measured on images with labels, and some of these have none (-1)")
    names = tuple(classes) or (known.classes if known is not None else ()) or split.classes
    names = names or tuple(str(k) for k in range(highest + 1))
    # Whoever names the outputs says what numbers stand for.
    counted = bool(classes) and is_numbered(split.classes)
    try:
        split = split if counted else split.named(names)
    except DataError as error:
        raise ValueError(
            f"{error} of the model: measure it on what it tells apart, or give classes=, what its outputs "
            "are called in these data, in order"
        ) from None
    if highest >= len(names) and (counted or not split.classes):
        raise ValueError(f"the split has a label {highest}, and the model {len(names)} classes, from 0")
    return replace(split, images=part(split.images, known)), names
