"""Split: labelled uint8 images, where they live, and what is true of them."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from budgetnet.data import known
from budgetnet.data.disk import OnDisk, chunks, fits_memory, free_memory, joined, marked, source_of
from budgetnet.data.kinds import DataError
from budgetnet.data.labels import renumbered
from budgetnet.values import described


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images uint8 (N, C, H, W), labels int64 (N,), and their positions int64 (N,) in the publisher's order.

    `images` that do not fit into memory are `OnDisk`, and each batch is read from there. `labels` lie on the
    split's device; -1 stands for no label. `indices` stay on the CPU. `names` are the file names, where there
    are files; `classes` what the labels stand for, as the `Data` that the split is of says. `groups` say
    what each image belongs to (a patient, a video), where that must not lie on both sides of a split. Raises
    `DataError` where these do not fit together.

        images, labels = split[torch.randperm(len(split))[:128]]
    """

    images: Tensor | OnDisk
    labels: Tensor
    indices: Tensor
    names: tuple[str, ...] | None = None
    classes: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for what in ("images", "labels", "indices"):
            value: object = getattr(self, what)
            dense = not isinstance(value, Tensor) or value.layout == torch.strided
            if not (isinstance(value, Tensor | OnDisk) and dense):
                kind = type(value).__name__ if dense else "a sparse one"
                raise DataError(
                    f"a split's {what} are a dense tensor, but found {kind}: budgetnet.arrays takes arrays, "
                    "lists and names"
                )
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            kind = described(self.images)
            raise DataError(
                f"a split's images are uint8 (N, C, H, W), but found {kind}: see budgetnet.arrays"
            )
        for what in ("labels", "indices"):
            values: Tensor = getattr(self, what)
            if values.dtype != torch.int64 or values.shape != self.images.shape[:1]:
                raise DataError(
                    f"a split of {len(self.images)} images has as many int64 {what}, but found "
                    f"{described(values)}"
                )
        for what in ("names", "groups"):
            given: tuple[str, ...] | None = getattr(self, what)
            if given is not None and len(given) != len(self.images):
                raise DataError(
                    f"a split of {len(self.images)} images has as many {what}, but found {len(given)}"
                )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        size = "x".join(str(side) for side in self.shape[1:])
        where = "" if self.images.device == self.device else f", held in {self.images.device.type} memory"
        where = ", on disk" if isinstance(self.images, OnDisk) else where
        return f"Split({len(self):,} images {size} for {self.device}{where})"

    @property
    def shape(self) -> torch.Size:
        """The shape of the images: (N, C, H, W)."""
        return self.images.shape

    @property
    def device(self) -> torch.device:
        """The device on which batches come out."""
        return self.labels.device

    def __getitem__(self, which: Tensor | Sequence[int] | slice | int) -> tuple[Tensor, Tensor]:
        """Return images uint8 (B, C, H, W) and labels int64 (B,) at positions, on the split's device.

        Positions are a CPU int64 tensor, a list or a slice (a lone number gives a single image without B).
        A slice may share memory with the split. Nothing waits for the device. Raises IndexError out of
        range.
        """
        if isinstance(which, slice) and self.images.device == self.device and (which.step or 1) > 0:
            return self.images[which].contiguous(), self.labels[which]
        if not isinstance(which, slice):
            which = torch.as_tensor(which, device="cpu")
            if which.ndim == 0:
                image, label = self[which.reshape(1)]
                return image[0], label[0]
        rows = self._positions(which)
        if self.device.type == "cpu":
            return self._gathered(rows), self.labels.index_select(0, rows)
        if self.device.type == "cuda":
            there = rows.pin_memory().to(self.device, non_blocking=True)
        else:
            there = rows.to(self.device)
        labels = self.labels.index_select(0, there)
        if isinstance(self.images, Tensor) and self.images.device == self.device:
            return self.images.index_select(0, there), labels
        # Gathered straight into page-locked memory: only from there does the copy overlap with the device's
        # work.
        batch = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8, pin_memory=True)
        return self._gathered(rows, batch).to(self.device, non_blocking=True), labels

    def _gathered(self, rows: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the images at rows, where images lie, or in `out`: uint8 (B, C, H, W)."""
        if isinstance(self.images, OnDisk):
            return self.images.read(rows, out)
        if out is None:
            return self.images.index_select(0, rows).contiguous()
        return torch.index_select(self.images, 0, rows, out=out)

    def _positions(self, which: Tensor | Sequence[int] | slice) -> Tensor:
        """Return positions as int64 (B,) on the CPU, none of them negative."""
        if isinstance(which, slice):
            return torch.tensor(range(len(self))[which], dtype=torch.int64)
        rows = torch.as_tensor(which, device="cpu")
        if rows.dtype == torch.bool and rows.shape == self.labels.shape:
            rows = rows.nonzero().flatten()
        if rows.numel() == 0:
            return torch.zeros(0, dtype=torch.int64)
        if rows.ndim != 1 or rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool:
            raise IndexError(f"positions are whole numbers (B,), but found {rows.dtype} {tuple(rows.shape)}")
        rows = rows.long()
        lowest, highest = int(rows.min()), int(rows.max())
        if lowest < -len(self) or highest >= len(self):
            worst = lowest if lowest < -len(self) else highest
            raise IndexError(f"position {worst} is outside a split of {len(self):,} images")
        return rows if lowest >= 0 else torch.where(rows < 0, rows + len(self), rows)

    def subset(self, which: Tensor | Sequence[int] | slice) -> "Split":
        """Return the images at these positions as a split of their own, in the order given.

        Of images in memory it is a copy; those on disk stay there.
        """
        rows = self._positions(which)
        names, groups = (
            None if each is None else tuple(each[row] for row in rows.tolist())
            for each in (self.names, self.groups)
        )
        return Split(
            self._some(rows),
            self.labels.index_select(0, rows.to(self.device)),
            self.indices.index_select(0, rows),
            names,
            self.classes,
            groups,
        )

    def named(self, classes: Sequence[str]) -> "Split":
        """Return the split with labels that count in these classes, by name.

        A split that does not know its classes counts in them already. Raises `DataError` for labels of other
        names.
        """
        ours = tuple(classes)
        if self.classes in ((), ours):
            return self
        return replace(self, labels=renumbered(self.labels, self.classes, ours), classes=ours)

    def _some(self, rows: Tensor) -> Tensor | OnDisk:
        source = source_of(self.images)
        if isinstance(self.images, OnDisk):
            return self.images.at(rows)
        images = self.images.index_select(0, rows.to(self.images.device)).contiguous()
        return images if source is None else marked(images, source.at(rows))

    def to(self, device: torch.device | str, *, fraction: float = 0.5) -> "Split":
        """Return the split for this device: its images lie there, or wait in host memory or on disk.

        They move to a CUDA device when they take at most `fraction` of the memory free there; else they are
        pinned in host memory when they take at most `fraction` of what is free on the host, or stay where
        they are, and each batch is pinned alone. The split itself comes back when nothing changes.
        """
        # "cuda" alone means the current one, which only a tensor tells.
        target = torch.empty(0, device=device).device
        if self.device == target:
            return self
        labels = self.labels.to(target)
        size = self.images.numel()
        if target.type != "cuda" or size <= fraction * torch.cuda.mem_get_info(target)[0]:
            return replace(self, images=self._moved(target), labels=labels)
        if isinstance(self.images, OnDisk):
            return replace(self, labels=labels)
        images = self.images.cpu()
        if not images.is_pinned() and size <= fraction * free_memory():
            images = images.contiguous().pin_memory()
        return replace(self, images=images, labels=labels)

    def _moved(self, target: torch.device) -> Tensor | OnDisk:
        """Return the images on a device, where those on disk are read to unless it is the CPU."""
        source = source_of(self.images)
        if not isinstance(self.images, OnDisk):
            images = self.images.to(target).contiguous()
        elif target.type == "cpu":
            return self.images
        else:
            images, at = torch.empty(self.shape, dtype=torch.uint8, device=target), 0
            for chunk in chunks(self.images):
                images[at : at + len(chunk)].copy_(chunk)
                at += len(chunk)
        return images if source is None else marked(images, source)

    def in_memory(self) -> "Split":
        """Return the split with its images in memory, where they are on disk and fit there."""
        if isinstance(self.images, OnDisk) and fits_memory(self.images.numel()):
            return replace(self, images=self.images.tensor())
        return self

    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of every channel over all pixels of the split, in [0, 1].

        Exact up to one rounding, from integer histograms; memory stays bounded. Raises `DataError` on no
        pixels.
        """
        if not self.images.numel():
            raise DataError(
                "the mean of a split takes at least one pixel, but found none: this split is empty"
            )
        means, deviations = known.recall(self.images, "mean and deviation", self._mean_std)
        return tuple(means), tuple(deviations)

    def _mean_std(self) -> tuple[list[float], list[float]]:
        channels = self.shape[1]
        histogram = torch.zeros(channels, 256, dtype=torch.int64, device=self.images.device)
        for chunk in chunks(self.images):
            for channel in range(channels):
                histogram[channel] += torch.bincount(chunk[:, channel].reshape(-1), minlength=256)
        pixels = self.images.numel() // channels
        means, deviations = [], []
        for row in histogram.tolist():
            total = sum(value * count for value, count in enumerate(row))
            squares = sum(value * value * count for value, count in enumerate(row))
            means.append(float(Fraction(total, 255 * pixels)))
            deviations.append(math.sqrt(Fraction(pixels * squares - total * total, (255 * pixels) ** 2)))
        return means, deviations

    def fingerprint(self) -> str:
        """Return a SHA-256 (hex) over shape, images and labels: equal on every device and layout."""
        labels = self.labels.cpu().contiguous().numpy().astype("<i8").data

        def fingerprint() -> str:
            digest = hashlib.sha256(repr(tuple(self.shape)).encode())
            for chunk in chunks(self.images):
                digest.update(chunk.cpu().numpy().data)
            digest.update(labels)
            return digest.hexdigest()

        return str(
            known.recall(self.images, f"fingerprint {hashlib.sha256(labels).hexdigest()}", fingerprint)
        )

    def mark(self) -> str:
        """Return a digest (hex) of which images these are: of their names, or where they have none, of them.

        Photos keep their names at whatever size they are stored.
        """
        if self.names is None:
            return self.fingerprint()
        return hashlib.sha256("\0".join(self.names).encode("utf-8", "surrogateescape")).hexdigest()

    def counts(self, classes: int) -> tuple[int, ...]:
        """Return how many images each class from 0 to classes - 1 has; what has no label does not count."""
        labels = self.labels.cpu()
        return tuple(torch.bincount(labels[labels >= 0], minlength=classes).tolist())

    def digests(self) -> Iterator[bytes]:
        """Yield the SHA-256 (32 bytes) of each image's pixels, whatever its label."""
        source = source_of(self.images)
        hashes = None if source is None else known.digests(source)
        if hashes is not None:
            together = hashes.numpy().tobytes()
            yield from (together[at : at + known.BYTES] for at in range(0, len(together), known.BYTES))
            return
        for chunk in chunks(self.images):
            for image in chunk.cpu().flatten(1).numpy():
                yield hashlib.sha256(image.data).digest()


def concatenated(first: Split, second: Split) -> Split:
    """Return the images of two splits as one; none that are on disk are read."""
    one, other = first.images, second.images
    names, groups = (
        None if a is None or b is None else (*a, *b)
        for a, b in ((first.names, second.names), (first.groups, second.groups))
    )
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        images: Tensor | OnDisk = torch.cat([one, other.to(one.device)])
    else:
        images = joined(one, other)
    return Split(
        images,
        torch.cat([first.labels, second.labels.to(first.device)]),
        torch.cat([first.indices, second.indices]),
        names,
        first.classes,
        groups,
    )
