"""Launch: whether a launcher started this process as one of several."""

import os

_LAUNCHERS = {
    "WORLD_SIZE": "torchrun",
    "SLURM_STEP_NUM_TASKS": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpiexec",
}
"""The variables in which launchers tell each process how many there are; SLURM_NTASKS is an allocation's."""


def check_launch(joined: int = 1) -> None:
    """Refuse to be one of several processes for one training. Raises ValueError.

    `joined` is how many processes torch.distributed has brought together already.
    """
    for name, launcher in _LAUNCHERS.items():
        count = max(joined, _count(name))
        if count > 1:
            raise ValueError(
                f"{name} should be 1, not {count}: budgetnet trains a run in one process on one device, and "
                f"each of the {count} would do the same; start it without {launcher} (--seeds N --together K "
                f"trains several runs at once), or unset {name} where each is to train a run of its own"
            )


def _count(name: str) -> int:
    """The number in the environment's variable `name`, 1 where there is none."""
    text = os.environ.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1
