"""Prune: the channels of a network that matter most, put into a narrower one of the same builder."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from budgetnet.compression.channels import Channels, channels_of


def shrink(large: nn.Module, small: nn.Module, shape: tuple[int, ...]) -> None:
    """
    Fill `small` with the weights of `large`'s most important channels, for images (1, C, H, W) of `shape`.

    Both are of one builder, and differ in how many channels their layers have. A channel counts as much as
    its batch norms scale it, where there are any (https://arxiv.org/abs/1708.06519), else as the sum of its
    weights' sizes (https://arxiv.org/abs/1608.08710); channels that are added to one another count together
    and go together. Raises ValueError where `small` is no narrower copy of `large`.
    """
    channels = channels_of(large, shape)
    state, target = large.state_dict(), small.state_dict()
    kept = _kept(channels, state, target)
    with torch.no_grad():
        for name, into in target.items():
            if name not in state:
                continue  # what only the small one has, such as the scales of few bits
            chosen = state[name]
            for dim in range(chosen.ndim):
                units = channels.dims.get((name, dim))
                if units is not None:
                    rows = [at for at, unit in enumerate(units) if channels.root(unit) in kept]
                    chosen = chosen.index_select(dim, torch.tensor(rows, device=chosen.device))
            if chosen.shape != into.shape:
                raise ValueError(
                    f"the smaller network should be a narrower one of the same builder, and its {name} has "
                    f"shape {tuple(into.shape)} where {tuple(chosen.shape)} is left of the larger one"
                )
            into.copy_(chosen)


def _kept(channels: Channels, state: dict[str, Tensor], target: dict[str, Tensor]) -> set[int]:
    """The channels to keep: of each set of rows that are made together the most important ones."""
    scores = _scores(channels, state)
    fixed = {channels.root(unit) for unit in channels.fixed}
    sets: dict[int, set[int]] = defaultdict(set)  # channels that one tensor makes, and what they are one with
    leader: dict[str, int] = {}
    parents: dict[int, int] = {}

    def find(at: int) -> int:
        while parents.setdefault(at, at) != at:
            at = parents[at]
        return at

    for unit, maker in channels.made.items():
        root = channels.root(unit)
        parents[find(root)] = find(leader.setdefault(maker, root))
    for unit in channels.made:
        root = channels.root(unit)
        sets[find(root)].add(root)
    kept: set[int] = set()
    for units in sets.values():
        makers = {maker for unit, maker in channels.made.items() if maker and channels.root(unit) in units}
        counts = {len(target[maker]) for maker in makers if maker in target}
        most = min(counts, default=len(units))
        if most < len(units) and units & fixed:
            raise ValueError(
                f"the channels of {min(makers)} cannot be left out one by one, as they are regrouped or "
                "moved on their way: give the smaller network as many of them"
            )
        kept |= set(sorted(units, key=lambda unit: (-scores.get(unit, 0.0), unit))[:most])
    return kept


def _scores(channels: Channels, state: dict[str, Tensor]) -> dict[int, float]:
    """How much each channel counts, relative to those beside it."""
    normed: dict[int, float] = defaultdict(float)
    weighed: dict[int, float] = defaultdict(float)
    for (name, dim), units in channels.dims.items():
        if dim != 0:
            continue
        tensor = state[name].detach().abs().float()
        beside = name.removesuffix("weight") + "running_mean"
        norm = tensor.ndim == 1 and name.endswith("weight") and beside in state
        if not norm and tensor.ndim < 2:
            continue
        size = tensor.flatten(1).sum(1) if tensor.ndim > 1 else tensor
        into = normed if norm else weighed
        for unit, each in zip(units, (size / size.mean().clamp_min(1e-12)).tolist(), strict=True):
            into[channels.root(unit)] += each
    return {**weighed, **normed}
