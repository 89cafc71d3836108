"""Optimizers: values that turn parameters into torch's own optimizers; the learning rate is the phase's."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter

OptimizerFactory = Callable[[Iterable[Parameter]], torch.optim.Optimizer]


def _groups(parameters: Iterable[Parameter], weight_decay: float, decay_norms: bool) -> list[dict[str, Any]]:
    """Parameter groups; biases and norms (one dimension or none) apart when they keep off the decay."""
    chosen = list(parameters)
    if decay_norms or not weight_decay:
        return [{"params": chosen, "weight_decay": weight_decay}]
    groups = [
        {"params": [p for p in chosen if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in chosen if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _check_decay(name: str, weight_decay: float) -> None:
    if weight_decay < 0:
        raise ValueError(f"{name}'s weight_decay should be 0 or more, not {weight_decay!r}")


def _check_betas(name: str, betas: tuple[float, float]) -> None:
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"{name}'s betas should be two numbers in [0, 1), not {betas!r}")


@dataclass(frozen=True)
class SGD:
    """torch.optim.SGD: `momentum`, Nesterov's by default, and L2 `weight_decay` added to the gradient.

    `decay_norms=False` keeps the decay off biases and norms (parameters of one dimension). The learning
    rate is the phase's.
    """

    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_norms: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"SGD's momentum should be in [0, 1), not {self.momentum!r}")
        if self.nesterov and not self.momentum:
            raise ValueError("SGD's nesterov needs a momentum above 0; pass nesterov=False")
        _check_decay("SGD", self.weight_decay)

    def __call__(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        groups = _groups(parameters, self.weight_decay, self.decay_norms)
        return torch.optim.SGD(groups, lr=0.0, momentum=self.momentum, nesterov=self.nesterov, fused=True)


@dataclass(frozen=True)
class Adam:
    """torch.optim.Adam, whose `weight_decay` is L2 added to the gradient (coupled).

    Reference: https://arxiv.org/abs/1412.6980.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    decay_norms: bool = True
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _check_betas("Adam", self.betas)
        _check_decay("Adam", self.weight_decay)

    def __call__(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        groups = _groups(parameters, self.weight_decay, self.decay_norms)
        return torch.optim.Adam(groups, lr=0.0, betas=self.betas, eps=self.eps, fused=True)


@dataclass(frozen=True)
class AdamW:
    """torch.optim.AdamW: `weight_decay` shrinks the weights themselves by `lr * weight_decay` a step.

    `decay_norms=False`, the default, keeps it off biases and norms. Reference:
    https://arxiv.org/abs/1711.05101.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05
    decay_norms: bool = False
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _check_betas("AdamW", self.betas)
        _check_decay("AdamW", self.weight_decay)

    def __call__(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        groups = _groups(parameters, self.weight_decay, self.decay_norms)
        return torch.optim.AdamW(groups, lr=0.0, betas=self.betas, eps=self.eps, fused=True)
