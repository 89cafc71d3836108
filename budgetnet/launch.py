"""Launch: whether a launcher started this process as one of several that are to train one run."""

import os

_WORLD = "WORLD_SIZE"
"""What torchrun, and all that start torch.distributed, tell each process."""
_TASKS = {"SLURM_STEP_NUM_TASKS": "srun", "OMPI_COMM_WORLD_SIZE": "mpirun", "PMI_SIZE": "mpiexec"}
"""What others tell each of theirs, which may well be meant to train runs of their own."""


def check_launch(joined: int = 1) -> list[str]:
    """Refuse to be one of several processes for one training; gives what is worth noting. Raises ValueError.

    `joined` is how many processes torch.distributed has brought together already.
    """
    world = max(joined, _count(_WORLD))
    if world > 1:
        raise ValueError(
            f"{_WORLD} should be 1, not {world}: budgetnet trains a run in one process on one device, and "
            f"each of the {world} would do the same; start it without torchrun (--seeds N --together K trains"
            f" several runs at once), or unset {_WORLD}"
        )
    several = [(name, _count(name)) for name in _TASKS if _count(name) > 1]
    return [
        f"this is one of {count} processes that {_TASKS[name]} started ({name}), and each of them trains a "
        "whole run of its own"
        for name, count in several[:1]
    ]


def _count(name: str) -> int:
    """The number in the environment's variable `name`, 1 where there is none."""
    text = os.environ.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1
