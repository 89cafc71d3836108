"""Advice: one plain sentence where a profile shows that something is clearly off."""

from collections.abc import Sequence

import torch

from budgetnet.data import Data
from budgetnet.profiling.values import PhaseProfile
from budgetnet.text import counted

DATA, REST, EVALUATION = 0.3, 0.2, 0.3
"""The shares of the time from which on advice is given."""


def advise(phases: Sequence[PhaseProfile], data: Data, device: torch.device) -> tuple[str, ...]:
    """What is worth changing, a sentence each; nothing where nothing is clearly off."""
    # The phase that most of the time goes into.
    phase = max(phases, key=lambda each: each.epochs * each.epoch_seconds)
    shares = {part.name: part.share for part in phase.parts}
    sentences = [*_data(phase, shares, data, device), *_threads(phase)]
    if shares.get("rest", 0.0) > REST:
        sentences.append(
            f"{100 * shares['rest']:.0f} % of a step of {phase.name} is neither data nor network: the step "
            "is so short that what surrounds it shows; a larger batch_size makes it matter less"
        )
    evaluation = phase.epoch_evaluation / phase.epoch_seconds
    if evaluation > EVALUATION:
        sentences.append(
            f"{100 * evaluation:.0f} % of an epoch of {phase.name} is evaluation: give its epochs more views "
            "(and make them fewer), or hold fewer images out"
        )
    return tuple(sentences)


def _data(phase: PhaseProfile, shares: dict[str, float], data: Data, device: torch.device) -> list[str]:
    if phase.data_share <= DATA:
        return []
    share = f"data take {100 * phase.data_share:.0f} % of a step of {phase.name}"
    stored = min(data.train.shape[-2:])
    if shares.get("gather", 0.0) > shares.get("views", 0.0):
        where = "" if data.train.images.device == device else "; images on the GPU need no copying"
        return [
            f"{share}, most of it to fetch the images: let them lie in memory, or store them smaller{where}"
        ]
    if stored > 1.5 * phase.resolution:
        return [
            f"{share}, most of it to make views: the images are stored at {stored} px for views of "
            f"{phase.resolution} px; store them at {round(1.15 * phase.resolution)} px"
        ]
    return [f"{share}, most of it to make views: leave out the costliest steps of augment, or train on a GPU"]


def _threads(phase: PhaseProfile) -> list[str]:
    if len(phase.threads) < 2:
        return []
    best = min(phase.threads, key=lambda count: phase.threads[count])
    most = max(phase.threads)
    if best == most or phase.threads[most] < 1.05 * phase.threads[best]:
        return []
    times = phase.threads[most] / phase.threads[best]
    named = counted(best, "thread")
    return [
        f"{most} threads take {times:.2f} times as long as {named} for a step of {phase.name}: "
        f"set OMP_NUM_THREADS={best}"
    ]
