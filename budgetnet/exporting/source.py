"""Source: the model that is exported, by itself and as it is tested."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.budget import check_fit, ledger
from budgetnet.exporting.page import record_of
from budgetnet.layers import Standardise
from budgetnet.modelfile import Card, card, described, load, resolved
from budgetnet.recipe import Test
from budgetnet.run import MODEL, Run


@dataclass(frozen=True)
class Source:
    """What is exported.

    A copy of the model, its card, (resize, crop) of its test, its file's bytes, and its run's record.
    """

    model: nn.Module
    card: Card
    sides: tuple[int, int]
    bytes: int
    record: Mapping[str, Any]

    def example(self, count: int) -> Tensor:
        """So many images (count, C, H, W), as the network takes them."""
        return torch.rand(count, self.card.channels, *[self.sides[1]] * 2)


def source_of(model: nn.Module | Run | str | Path, resolution: int | None) -> tuple[Source, Path]:
    """What is exported, and the file beside which its export lies."""
    beside = file = Path("model")
    if isinstance(model, Run):
        given = model.folder if model.model is None else model.model
        if given is None:
            raise ValueError("the run has no folder and no model: give the model itself")
        beside = file = file if model.folder is None else model.folder / MODEL
        model = given
    if not isinstance(model, nn.Module):
        file = resolved(model)
        file = file / MODEL if file.is_dir() else file
        beside = file if Path(model).exists() else Path(file.name)  # one that comes along is not ours to fill
        model = load(file)
    inside = next((each for each in model.modules() if isinstance(each, Standardise)), None)
    channels = 3 if inside is None else len(inside.mean)
    known = card(model) or described(model, channels=channels)
    if resolution is not None:
        check_fit(model, resolution, channels=known.channels)
        known = replace(known, resize=resolution, crop=resolution)
    if known.crop is None and known.resize is None:
        raise ValueError(
            "this model has no card that says at which resolution it is to be tested: give resolution=, in "
            "pixels"
        )
    sides = Test(known.resize, known.crop).at(known.crop or known.resize or 1)
    copied = copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format)
    weighs = file.stat().st_size if file.is_file() else ledger(model).saved
    return Source(copied, known, sides, weighs, record_of(file)), beside
