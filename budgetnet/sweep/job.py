"""Job: one run that a worker is to train, as plain JSON on its way to the worker's process."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from budgetnet.identity import described_value, digests, without_unknown
from budgetnet.plan import Plan
from budgetnet.trainer import NotFinite, Trainer, out_of_memory

FAILURE = "failure"
"""The entry of a failed run's record that says what kind of failure it was."""
NOT_FINITE, MEMORY, MISTAKE, FAILED = "not finite", "memory", "mistake", "failed"


@dataclass(frozen=True)
class Job:
    """A run to be trained: its `name` among the others, its plan, and where it lies or will lie.

    A new folder `out/called-N` is made for it once it begins, unless it goes on in `folder` exactly, from the
    checkpoint there. `record` is added to its record. Without `tested` the test split is not there for it.
    """

    name: str
    plan: Plan
    out: Path
    called: str
    record: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    tested: bool = True

    def message(self, folder: Path, *, resume: bool, alone: bool, until: float | None) -> dict[str, Any]:
        """The job as the worker is told of it; `until` is when it ends, by the system's monotonic clock."""
        return {
            "changes": list(self.plan.changes),
            "plan": told(self.plan),
            "record": dict(self.record),
            "folder": str(folder),
            "resume": resume,
            "alone": alone,
            "tested": self.tested,
            "until": until,
        }


def told(plan: Plan) -> dict[str, Any]:
    """What is the same of plans that train the same, in whichever process they were read, as plain JSON."""
    # A text that reads like a number is another value than that number.
    options = described_value([dict(plan.data_options), dict(plan.model_options)])
    whole = json.dumps({**plan.describe(), "options": options})
    known = without_unknown(whole)
    # What has no source that can be read is the same where the files are that it was made in.
    return {**json.loads(known), "source": digests(plan.source) if known != whole else {}}


def engine_of(trainer: Trainer) -> dict[str, Any]:
    """What makes a trainer that computes as this one does."""
    half = trainer.engine.autocast == torch.bfloat16
    return {
        "device": str(trainer.device),
        "precision": "bf16" if half else "float32",
        "speed": trainer.speed,
    }


def kind_of(error: BaseException) -> str:
    """What kind of failure an exception is."""
    if isinstance(error, NotFinite):
        return NOT_FINITE
    if out_of_memory(error):
        return MEMORY
    return MISTAKE if isinstance(error, ValueError) else FAILED
