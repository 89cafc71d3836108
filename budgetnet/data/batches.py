"""Batches of a split: read ahead of their use in the background, or out of a copy that CPUs read faster."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from budgetnet.data.disk import OnDisk
from budgetnet.data.splits import Split

# Batches that are read at the same time, and that wait to be used at most; measured in benchmarks/large.py.
READERS, WAITING = 4, 4
Batch = tuple[Tensor, Tensor, torch.cuda.Event | None]


class Ahead:
    """The batches of a split at `batches`, positions int64 (B,) each, read by threads a few ahead of use.

    Index it like the split, in the order of `batches`: it gives exactly what the split gives. An error in a
    thread is raised where its batch is asked for. The threads end with the `with` block.

        with Ahead(split, batches) as source:
            for which in batches:
                images, labels = source[which]
    """

    def __init__(self, split: Split, batches: Iterable[Tensor]) -> None:
        self.split, self._batches = split, iter(batches)
        self._waiting: deque[tuple[Tensor, Future[Batch]]] = deque()
        self._stream: torch.cuda.Stream | None = None
        if split.device.type == "cuda":
            # Copies on a stream of their own run beside the network's work.
            self._stream = torch.cuda.Stream(split.device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(split.device))

    def __enter__(self) -> "Ahead":
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="budgetnet-reading")
        for _ in range(WAITING):
            self._begin()
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()

    def __getitem__(self, which: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return images uint8 (B, C, H, W) and labels int64 (B,) at the next positions, on the device."""
        expected, future = self._waiting.popleft()
        announced = isinstance(which, Tensor) and torch.equal(expected, which)
        assert announced, "batches are asked for in the order in which they were announced"
        images, labels, event = future.result()
        self._begin()
        if event is not None:
            current = torch.cuda.current_stream(self.split.device)
            current.wait_event(event)
            # Their memory belongs to the other stream, which must not reuse it before this one is done.
            images.record_stream(current)
            labels.record_stream(current)
        return images, labels

    def _begin(self) -> None:
        which = next(self._batches, None)
        if which is not None:
            self._waiting.append((which, self._pool.submit(self._read, which)))

    def _read(self, which: Tensor) -> Batch:
        if self._stream is None:
            return *self.split[which], None
        with torch.cuda.device(self.split.device), torch.cuda.stream(self._stream):
            images, labels = self.split[which]
            return images, labels, self._stream.record_event()


class Interleaved:
    """A copy in memory of a split's images and labels whose batches come out in torch.channels_last.

    They are otherwise exactly the split's own. Converting batch by batch would take longer than gathering
    them and making them floats.
    """

    device = torch.device("cpu")

    def __init__(self, split: Split) -> None:
        assert isinstance(split.images, Tensor)
        self.labels = split.labels
        # (N, H, W, C): rows of a tensor that is contiguous are gathered fastest.
        self._pixels = split.images.permute(0, 2, 3, 1).contiguous()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return images uint8 (B, C, H, W) and labels int64 (B,) at positions int64 (B,) or in a slice."""
        if isinstance(which, slice):
            return self._pixels[which].permute(0, 3, 1, 2), self.labels[which]
        pixels = self._pixels.index_select(0, which)
        return pixels.permute(0, 3, 1, 2), self.labels.index_select(0, which)


def at_hand(split: Split) -> bool:
    """Whether the images are on the split's device."""
    return isinstance(split.images, Tensor) and split.images.device == split.device


@contextmanager
def reading(
    split: Split | Interleaved, batches: Iterable[Tensor | slice]
) -> Iterator[Split | Interleaved | Ahead]:
    """Yield the source of the batches: the split itself where it is at hand, else `Ahead`, without slices."""
    if isinstance(split, Interleaved) or at_hand(split):
        yield split
        return
    positions = (which for which in batches if isinstance(which, Tensor))
    with Ahead(split, positions) as ahead:
        yield ahead


def in_order(images: OnDisk, batch_size: int) -> Iterator[Tensor]:
    """Yield all images as tensors uint8 (B, C, H, W) in order, read ahead of use."""
    count = len(images)
    split = Split(images, torch.full((count,), -1), torch.arange(count))
    batches = torch.split(torch.arange(count), batch_size)
    with Ahead(split, batches) as ahead:
        for which in batches:
            yield ahead[which][0]
