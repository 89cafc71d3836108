"""Randomness without state: what is drawn at step n depends on (seed, n) alone and can be replayed."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_MASK = (1 << 64) - 1
ORDER, VIEW, MODEL, TEST, SESSION, UNLABELLED, PLACE = range(7)


def mixed(*numbers: int) -> int:
    """One well-spread 32-bit seed from several numbers (splitmix64, folded).

    32 bits, since that is what torch's CPU generator takes of a seed.
    """
    state = 0
    for number in numbers:
        state = (state ^ number) & _MASK
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return (state ^ (state >> 32)) & 0xFFFFFFFF


def drawn(seed: int, stream: int, number: int) -> int:
    """The 32-bit seed of one step (or epoch, or batch): no two of a training's first 2**32 share theirs.

    Two keys from (seed, stream) stand before and after murmur3's finalizer, which maps 32 bits one to one.
    """
    before, after = _keys(seed, stream)
    state = (number ^ before) & 0xFFFFFFFF
    state = ((state ^ (state >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    state = ((state ^ (state >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return state ^ (state >> 16) ^ after


@lru_cache(maxsize=64)
def _keys(seed: int, stream: int) -> tuple[int, int]:
    return mixed(seed, stream, 0), mixed(seed, stream, 1)


def order(count: int, views: float, seed: int, epoch: int, *, labels: Tensor | None = None) -> Tensor:
    """The indices of one epoch: `views` permutations of `count` images end to end, (views * count,).

    With the `labels` of the images every class comes equally often, each by permutations of its own images.
    """
    generator = torch.Generator().manual_seed(drawn(seed, ORDER, epoch))
    if labels is not None:
        return _balanced(labels, max(1, round(views * count)), generator)
    whole = [torch.randperm(count, generator=generator) for _ in range(math.ceil(views))]
    return torch.cat(whole)[: max(1, round(views * count))]


def _balanced(labels: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """`n` indices of images, as many of each class as of every other, but for one."""
    classes = [(labels == label).nonzero().flatten() for label in torch.unique(labels)]
    each, rest = divmod(n, len(classes))
    more = set(torch.randperm(len(classes), generator=generator)[:rest].tolist())
    chosen = []
    for at, members in enumerate(classes):
        take = each + (at in more)
        rounds = [torch.randperm(len(members), generator=generator) for _ in range(-(-take // len(members)))]
        chosen += [members[torch.cat(rounds)[:take]]] if take else []
    return torch.cat(chosen)[torch.randperm(n, generator=generator)]


def reseed(device: torch.device, seed: int) -> None:
    """Seed the global generators for one step: torch's, which dropout draws from, Python's and NumPy's."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def forked(device: torch.device | None) -> Iterator[None]:
    """Leave torch's global generators, on `device` too, as they were found."""
    on_cuda = device is not None and device.type == "cuda"
    state = torch.mps.get_rng_state() if device is not None and device.type == "mps" else None
    try:
        with torch.random.fork_rng(devices=[device] if on_cuda else []):
            yield
    finally:
        if state is not None:
            torch.mps.set_rng_state(state)


@contextmanager
def own_randomness(device: torch.device | None = None) -> Iterator[None]:
    """Leave the global generators, torch's, on `device` too, Python's and NumPy's, as they were found."""
    pythons, numpys = random.getstate(), np.random.get_state()
    try:
        with forked(device):
            yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)


def drawn_from(seed: int) -> list[str]:
    """Whose global generators, Python's and NumPy's, were drawn from since `reseed` with this seed."""
    untouched = repr(np.random.RandomState(seed).get_state(legacy=False))
    pythons = random.getstate() != random.Random(seed).getstate()
    numpys = repr(np.random.get_state(legacy=False)) != untouched
    return ["Python's random"] * pythons + ["NumPy's random"] * numpys
