"""Launch: whether a launcher started this process as one of several, and as which."""

import os
from dataclasses import dataclass

_LAUNCHERS = {
    "WORLD_SIZE": "torchrun",
    "SLURM_STEP_NUM_TASKS": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpiexec",
}
"""The variables in which launchers tell each process how many there are; SLURM_NTASKS is an allocation's."""
_MEETING = ("RANK", "MASTER_ADDR", "MASTER_PORT")
"""The variables by which torchrun's processes find one another."""


@dataclass(frozen=True)
class Launch:
    """This process is the `rank`-th of `size`, counted from 0, and the `local`-th of its machine's `beside`.

    It was started again so many times, after one of them had failed.
    """

    rank: int
    size: int
    local: int
    beside: int
    restarts: int


def launched() -> Launch | None:
    """As which of several processes torchrun started this one; None where it is the only one."""
    size = _count("WORLD_SIZE")
    if size < 2 or not all(os.environ.get(name) for name in _MEETING):
        return None
    return Launch(
        _count("RANK", 0),
        size,
        _count("LOCAL_RANK", 0),
        _count("LOCAL_WORLD_SIZE", size),
        _count("TORCHELASTIC_RESTART_COUNT", 0),
    )


def check_launch(joined: int = 1) -> None:
    """Refuse to be one of several processes for what one does. Raises ValueError.

    `joined` is how many processes torch.distributed has brought together already.
    """
    for name, launcher in _LAUNCHERS.items():
        count = max(joined, _count(name))
        if count > 1:
            raise ValueError(
                f"{name} should be 1, not {count}: one process does this, and each of {count} would do the "
                f"same; start it without {launcher} (--seeds N --together K trains several runs at once), or "
                f"unset {name} where each is to have work of its own; several train one run with torchrun "
                "-m budgetnet run, one torchrun a machine"
            )


def _count(name: str, otherwise: int = 1) -> int:
    """The number in the environment's variable `name`, or else what is given."""
    text = os.environ.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else otherwise
