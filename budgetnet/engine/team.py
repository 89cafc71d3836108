"""Team: the processes that train one run together: who leads, whose share is what, and what all agree on."""

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import accumulate
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from budgetnet.engine.failure import TrainingFailed
from budgetnet.process import Launch, check_launch, launched

Found = TypeVar("Found")
PATIENCE = "BUDGETNET_PATIENCE"
"""The environment's variable that says how many seconds a process waits for the others."""
SECONDS = 600.0


@dataclass(frozen=True)
class Team:
    """This process is the `rank`-th of `size`, from 0, each of which holds the whole training.

    Of each batch it takes a share. Where they are `synchronised`, batch norms take the statistics of the
    whole batch. Alone all of this does nothing.
    """

    rank: int = 0
    size: int = 1
    synchronised: bool = False

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes, prints and tells."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.size == 1

    def shares(self, count: int) -> list[int]:
        """How many of `count` images each process takes."""
        least, more = divmod(count, self.size)
        return [least + (rank < more) for rank in range(self.size)]

    def share(self, count: int) -> slice:
        """Which of `count` images this process takes."""
        return own(self.shares(count), self.rank)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in the tensor itself: the same bits in each of them."""
        if not self.alone:
            with _together():
                dist.all_reduce(tensor)
        return tensor

    def gathered(self, own: Tensor, rows: Tensor, count: int) -> Tensor:
        """All of `count` rows, of which this process has its `own`, to lie at `rows`."""
        whole = own.new_zeros(count, *own.shape[1:])
        whole[rows] = own
        return self.sum(whole)

    def agreed(self, number: int) -> int:
        """The largest of the numbers that the processes give."""
        if self.alone:
            return number
        largest = torch.tensor(number)
        with _together():
            dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def led(self, work: Callable[[], Found]) -> Found:
        """What `work` gives, or raises, in the process that leads: in all of them."""
        if self.alone:
            return work()
        held: list[Any] = [None, None]
        if self.leads:
            try:
                held[0] = work()
            except Exception as error:
                held[1] = error
        with _together():
            dist.broadcast_object_list(held)
        if held[1] is not None:
            raise held[1]
        return held[0]  # type: ignore[no-any-return]

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Give these tensors, in all processes, the values that the leading one has."""
        if not self.alone:
            with _together(), torch.no_grad():
                for tensor in tensors:
                    held = tensor.detach().contiguous()
                    dist.broadcast(held, 0)
                    tensor.copy_(held)

    @contextmanager
    def first(self) -> Iterator[None]:
        """Within it the first process of each machine works before the others of it do."""
        launch = launched()
        if self.alone or launch is None:
            yield
            return
        if launch.local:
            self.agreed(0)
        try:
            yield
        finally:
            if not launch.local:
                self.agreed(0)


ALONE = Team()


def own(sizes: Sequence[int], rank: int) -> slice:
    """Where the `rank`-th of parts of these sizes lies."""
    end = list(accumulate(sizes))[rank]
    return slice(end - sizes[rank], end)


def join(device: torch.device, *, synchronised: bool = False) -> Team:
    """The team of this process, which torchrun or torch.distributed brought together; ALONE for none.

    Raises ValueError for processes that another launcher started, or that cannot agree on a CPU.
    """
    team, launch = _initialised(), launched()
    if team is None and launch is not None:
        team = _initialise(launch, device)
    if team is None or team.alone:
        check_launch()
        return ALONE
    return replace(team, synchronised=synchronised)


def _initialised() -> Team | None:
    if not dist.is_available() or not dist.is_initialized():
        return None
    size = dist.get_world_size()
    if size > 1 and "gloo" not in str(dist.get_backend_config()):
        raise ValueError(
            "torch.distributed should be initialised with gloo too, on which the processes agree, not with "
            f"{dist.get_backend()} alone: init_process_group('cpu:gloo,cuda:nccl')"
        )
    return Team(dist.get_rank(), size)


def _initialise(launch: Launch, device: torch.device) -> Team:
    if not dist.is_available():
        raise ValueError("several processes train a run through torch.distributed, and this torch has none")
    # Not there in a torch that has no distributed part.
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    wait = timedelta(seconds=patience())
    with _together():
        store, rank, size = next(rendezvous("env://", launch.rank, launch.size, timeout=wait))
        if launch.beside == launch.size:
            # torchrun keeps its store when it starts processes again, with the addresses of those before.
            store = PrefixStore(f"budgetnet/{launch.restarts}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=wait)
    atexit.register(_leave)
    return Team(launch.rank, launch.size)


def _leave() -> None:
    """Leave the group that was joined here."""
    if dist.is_initialized():
        with suppress(Exception):
            dist.destroy_process_group()


def patience() -> float:
    """Seconds that a process waits for the others. Raises ValueError."""
    text = os.environ.get(PATIENCE, "")
    try:
        seconds = float(text) if text else SECONDS
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 1e6:
        raise ValueError(f"{PATIENCE} should be seconds from 1 to 1000000, not {text!r:.40}")
    return seconds


@contextmanager
def _together() -> Iterator[None]:
    """Say what it means when torch.distributed fails: one of the others is gone, or hangs."""
    try:
        yield
    except RuntimeError as error:
        waited = any(word in str(error).lower() for word in ("timed out", "timeout"))
        why = (
            f"one of the others hangs: it did not answer for {patience():g} seconds ({PATIENCE})"
            if waited
            else "one of the others is gone"
        )
        raise TrainingFailed(
            f"the processes that train together lost one another, since {why}; what the last checkpoint "
            "holds is kept: go on with --resume (resume=), or start them with torchrun --max-restarts"
        ) from error
