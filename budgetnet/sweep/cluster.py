"""Cluster: where runs and trials are tasks of Ray, and which resources each of them is given."""

from dataclasses import dataclass
from typing import Any

from budgetnet.sweep.job import engine_of
from budgetnet.trainer import Trainer
from budgetnet.values import number


@dataclass(frozen=True)
class Cluster:
    """Where runs are Ray's tasks: "ray" is this machine (or RAY_ADDRESS), "ray://HOST" a cluster.

    Each task is given so many `cpus`, its threads, and `gpus`, which may be a fraction.

        seeds(Trainer(), read_plan("mine.py"), 8, together=Cluster("ray://head", gpus=0.25))
    """

    address: str = "ray"
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.address != "ray" and not self.address.removeprefix("ray://") != self.address:
            raise ValueError(f"runs are trained on ray or ray://HOST, not on {self.address!r:.80}")
        number("a task's cpus", self.cpus, above=0)
        number("a task's gpus", self.gpus, least=0)

    @property
    def threads(self) -> int:
        """The threads of a task."""
        return max(1, int(self.cpus))

    def engine(self, trainer: Trainer) -> dict[str, Any]:
        """What makes the trainer of a task: on a GPU where it is given one."""
        if self.gpus:
            return {"device": None, "precision": "auto", "speed": trainer.speed}
        if trainer.device.type == "cuda":
            raise ValueError(
                "a task on a GPU should say how much of one it takes: gpus=0.5 (--gpus-per-trial 0.5), or "
                "device='cpu' (--device cpu)"
            )
        return engine_of(trainer)
