"""Memory: what runs out of it is told apart from other errors, and gone through in smaller parts."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from budgetnet.engine.team import ALONE, Team
from budgetnet.process import Launch, launched
from budgetnet.run import Note

Found = TypeVar("Found")
Turn = TypeVar("Turn")

_DEVICES = "device should be 'cuda', 'cuda:1', 'mps' or 'cpu'"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the host has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # torch tells of the host's memory with a bare RuntimeError.
    wordings = ("can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in wordings)


def release() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


@dataclass
class Chunks:
    """How images that are only looked at go through a model: each batch in so many `parts`.

    `pause` is called between two batches and may raise; `tell` is told what is worth knowing. The processes
    of a `team` take the batches in turn.
    """

    parts: int = 1
    team: Team = ALONE
    pause: Callable[[], object] = lambda: None
    tell: Callable[[Note], None] | None = None

    def turns(self, batches: Sequence[Turn]) -> Iterator[tuple[int, Turn]]:
        """This process's batches with their numbers from 0, and a pause of all before each round."""
        for number, batch in enumerate(batches):
            if number % self.team.size == 0:
                self.pause()
            if number % self.team.size == self.team.rank:
                yield number, batch

    def through(self, work: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        """What `work` gives for a batch, (B, ...) -> (B, ...); in smaller parts where memory runs out."""
        while True:
            try:
                if self.parts == 1:
                    return work(batch)
                pieces = torch.tensor_split(batch, min(self.parts, len(batch)))
                return torch.cat([work(piece) for piece in pieces])
            except Exception as error:
                if not out_of_memory(error) or self.parts >= len(batch):
                    raise
            # Outside of the handler, which holds on to the tensors of the attempt.
            release()
            self.parts *= 2
            if self.tell is not None:
                text = (
                    f"the memory does not suffice to evaluate {len(batch)} images at once: from here "
                    f"on they go through the model in {self.parts} parts"
                )
                self.tell(Note("memory", text))


def once_more(work: Callable[[], Found]) -> Found:
    """What `work` gives, where it runs out of memory at the first attempt at the second."""
    try:
        return work()
    except Exception as error:
        if not out_of_memory(error):
            raise
    release()
    return work()


def update(optimizer: torch.optim.Optimizer) -> None:
    """One step of the optimizer, tried again where memory ran out before it had changed anything.

    An optimizer makes its state at its first step: what is half made of it is thrown away before.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    known, versions = len(optimizer.state), [p._version for p in parameters]
    try:
        optimizer.step()
        return
    except Exception as error:
        if not out_of_memory(error) or versions != [p._version for p in parameters]:
            raise
    # A dict keeps its order: what was made last stands last.
    for parameter in list(optimizer.state)[known:]:
        del optimizer.state[parameter]
    release()
    optimizer.step()


def clear(optimizer: torch.optim.Optimizer) -> None:
    """Drop the gradients as `zero_grad` does, whose word to torch's profiler takes longer than that."""
    if getattr(optimizer.zero_grad, "__func__", None) is not torch.optim.Optimizer.zero_grad:
        optimizer.zero_grad(set_to_none=True)
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def device_of(device: str | torch.device | None) -> torch.device:
    """The device of this name, or the GPU where there is one. Raises ValueError.

    Each of the processes that torchrun starts on a machine has a GPU of its own.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"{_DEVICES}, not {str(device)!r}") from None
    if chosen.type not in ("cuda", "mps", "cpu"):
        raise ValueError(f"{_DEVICES}, not {str(device)!r}")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {str(device)!r} needs an Apple GPU, and none was found; use device='cpu'")
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or (chosen.index or 0) >= count:
            kinds = f"{count} were found" if count else "none was found"
            raise ValueError(f"device {str(device)!r} needs a CUDA GPU, and {kinds}; use device='cpu'")
        launch = launched()
        if launch is not None:
            return torch.device("cuda", _own_gpu(launch, chosen, count))
        return torch.device("cuda", chosen.index or 0)
    return chosen


def _own_gpu(launch: Launch, device: torch.device, count: int) -> int:
    """The number of the GPU that a process of several has to itself, of so many."""
    if ":" in str(device):
        raise ValueError(f"device should be 'cuda', not {str(device)!r}: each process has a GPU of its own")
    if launch.beside > count:
        raise ValueError(
            f"torchrun should start a process for each of {count} GPUs, and started {launch.beside}; give "
            "--nproc-per-node gpu, or use device='cpu'"
        )
    return launch.local
