"""Live: how much memory the activations of one watched pass need at once, and the module then at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

_HELD = 3  # modules that a peak names


@dataclass(frozen=True)
class Peak:
    """The most `bytes` of activations that are live at once, in the `module` ("" for the model itself) that
    then is at work; `held` are the modules that made most of them ("" for the image too), with their bytes.
    """

    bytes: int
    module: str
    held: tuple[tuple[str, int], ...]


@dataclass
class _Memory:
    """What one or more tensors lie in, from operation `born` to operation `last`."""

    bytes: int
    numbers: int
    born: int
    last: int
    storage: StorageWeakRef  # keeps the address its own, and no memory
    follows: bool = False

    def size(self, int8: bool) -> int:
        return self.numbers if int8 else self.bytes


@dataclass
class Lives:
    """The memory of every tensor of a pass, views in that of what they look at, and each operation's module.

    Only what follows from the image is an activation: what follows from weights alone is computed before.
    """

    memories: dict[int, _Memory] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)

    def begin(self, images: Tensor) -> None:
        """The image is there before the first operation."""
        self.modules.append("")
        for memory in self._touched([images]):
            memory.follows = True

    def operation(self, module: str, given: Iterable[Tensor], returned: Iterable[Tensor]) -> bool:
        """An operation inside `module` read the tensors `given`, and made or wrote into those `returned`.

        Gives whether it follows from the image.
        """
        self.modules.append(module)
        read = self._touched(given)
        follows = any(memory.follows for memory in read)
        for memory in self._touched(returned):
            memory.follows |= follows
        return follows

    def end(self, outputs: Iterable[Tensor]) -> None:
        """What the model returns lives until then."""
        for _ in self._touched(outputs):
            pass

    def peak(self, *, int8: bool = False) -> Peak:
        """Where most is live; with `int8` a floating number takes one byte, as in a network of eight bits."""
        changes = [0] * (len(self.modules) + 1)
        activations = [memory for memory in self.memories.values() if memory.follows]
        for memory in activations:
            changes[memory.born] += memory.size(int8)
            changes[memory.last + 1] -= memory.size(int8)
        most, at, live = 0, 0, 0
        for operation, change in enumerate(changes):
            live += change
            if live > most:
                most, at = live, operation
        held: Counter[str] = Counter()
        for memory in activations:
            if memory.born <= at <= memory.last:
                held[self.modules[memory.born]] += memory.size(int8)
        return Peak(most, self.modules[at], tuple(held.most_common(_HELD)))

    def _touched(self, tensors: Iterable[Tensor]) -> list[_Memory]:
        """Their memories, which live at least until the last operation that there was."""
        memories = []
        now = len(self.modules) - 1
        for tensor in tensors:
            try:
                storage = tensor.untyped_storage()
            except (RuntimeError, NotImplementedError):  # of no plain layout
                continue
            memory = self.memories.get(storage._cdata)
            if memory is None:
                size, each = storage.nbytes(), tensor.element_size()
                numbers = size // each if tensor.is_floating_point() else size
                reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                memory = _Memory(size, numbers, now, now, reference)
                self.memories[storage._cdata] = memory
            memory.last = now
            memories.append(memory)
        return memories
