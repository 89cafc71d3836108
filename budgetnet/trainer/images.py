"""What predict is given (tensors, arrays, a Split, image files, folders) as batches of uint8 images."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from budgetnet.data import OnDisk, Split
from budgetnet.data.ahead import in_order
from budgetnet.data.arrays import pixels
from budgetnet.data.listing import ENDINGS

Path_: TypeAlias = str | os.PathLike[str]
Images: TypeAlias = Tensor | npt.NDArray[np.generic] | Split | Path_ | Sequence[Path_]

# Rec. 601, what Pillow and torchvision make greys with.
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Given:
    """Batches of uint8 images (B, C, H, W), the images' names in order, and their shorter side."""

    batches: Iterator[Tensor]
    names: tuple[str, ...]
    size: int


def gather(images: Images, *, channels: int, batch_size: int, resize: int | None) -> Given:
    """The batches of whatever `images` is. Raises ValueError naming what cannot be used."""
    if isinstance(images, Split):
        return _stored(images.images, images.names, channels, batch_size)
    if isinstance(images, Tensor | np.ndarray):
        single = images.ndim == 3 and images.shape[0] == channels
        stored = pixels(images[None] if single else images, "predict")
        return _stored(stored, None, channels, batch_size)
    paths = [images] if isinstance(images, str | os.PathLike) else list(images)
    if not all(isinstance(path, str | os.PathLike) for path in paths):
        raise ValueError(
            "predict takes a tensor or array of images, a Split, or paths of image files and folders, "
            f"not a list of {type(paths[0]).__name__}"
        )
    files = _files([Path(path) for path in paths])
    if resize is None:
        raise ValueError(
            "predict needs a resolution to read files at: this model has no card; give resolution="
        )
    read = _read(files, channels, batch_size, resize)
    return Given(read, tuple(str(file) for file in files), resize)


def _stored(images: Tensor | OnDisk, names: tuple[str, ...] | None, channels: int, batch_size: int) -> Given:
    if images.shape[1] != channels:
        raise ValueError(f"the model takes images of {channels} channels, and these have {images.shape[1]}")
    known = names or tuple(str(k) for k in range(len(images)))
    parts = (
        in_order(images, batch_size) if isinstance(images, OnDisk) else iter(torch.split(images, batch_size))
    )
    return Given(parts, known, min(images.shape[-2:]))


def _files(paths: list[Path]) -> list[Path]:
    """The image files that `paths` name, those of folders in the order of their names."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
            if not inside:
                raise ValueError(f"the folder {path} holds no image files ({', '.join(ENDINGS)})")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise ValueError(f"there is no image file or folder {path}")
    if not files:
        raise ValueError("predict was given no images")
    return files


def _read(files: list[Path], channels: int, batch_size: int, resize: int) -> Iterator[Tensor]:
    # Pillow is for files alone.
    from budgetnet.data.photos import photo

    bad: list[str] = []
    for start in range(0, len(files), batch_size):
        batch = []
        for file in files[start : start + batch_size]:
            found = photo(file, resize, squash=False)
            if isinstance(found, str):
                bad.append(f"{file}: {found}")
            else:
                batch.append(torch.from_numpy(found))
        if bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            raise ValueError(f"an image cannot be read: {bad[0]}{more}; leave it out")
        images = torch.stack(batch)
        if channels == 1:
            grey = (images.float() * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
            images = grey.round().to(torch.uint8)
        yield images
