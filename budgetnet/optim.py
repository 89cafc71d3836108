"""Optimizers: values that turn parameters into torch's own optimizers; the learning rate is the phase's."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from inspect import unwrap
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import Parameter

from budgetnet.values import number, share, whole

OptimizerFactory = Callable[[Iterable[Parameter]], torch.optim.Optimizer]


@runtime_checkable
class ByName(Protocol):
    """A factory that is called with (name, parameter) pairs where `takes_names` is true, as `Groups` is."""

    takes_names: bool


@runtime_checkable
class Scheduled(Protocol):
    """A factory with schedules of its own, as `Groups` is; `monitors` are the figures that they read."""

    @property
    def monitors(self) -> set[str]:
        """Names such as "val_loss"."""
        ...


def takes_names(factory: object) -> bool:
    """Whether a factory is called with (name, parameter) pairs rather than with parameters."""
    return isinstance(factory, ByName) and factory.takes_names


def monitored_by(factory: object) -> set[str]:
    """The figures that a factory's own schedules read."""
    return factory.monitors if isinstance(factory, Scheduled) else set()


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


def _fused(groups: list[dict[str, Any]]) -> bool:
    """Whether torch's fused steps take these parameters: they take no complex ones."""
    return all(parameter.is_floating_point() for group in groups for parameter in group["params"])


def _check(factory: "SGD | Adam | AdamW | Muon") -> None:
    """Refuse options that no step can be taken with."""
    name = type(factory).__name__
    if isinstance(factory, Adam | AdamW):
        given: object = factory.betas
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise ValueError(f"{name}'s betas should be two numbers, not {given!r}")
        for beta in factory.betas:
            share(f"each of {name}'s betas", beta)
    else:
        share(f"{name}'s momentum", factory.momentum)
        if factory.nesterov and not factory.momentum:
            raise ValueError(f"{name}'s nesterov needs a momentum above 0; pass nesterov=False")
    number(f"{name}'s weight_decay", factory.weight_decay, least=0)


@cache
def eager(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """A torch optimizer's class, with its name, that does the same without importing torch._dynamo.

    torch marks these methods for torch.compile, which compiles models here but no optimizer; importing it
    takes nearly as long as torch itself.
    """
    marked = ("add_param_group", "state_dict", "load_state_dict", "zero_grad")
    methods = {name: unwrap(getattr(kind, name)) for name in marked}
    step = torch.no_grad()(unwrap(kind.step))
    return type(kind.__name__, (kind,), {**methods, "step": step, "__module__": kind.__module__})


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
        _check(self)

    def __call__(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        groups = _groups(parameters, self.weight_decay, self.decay_norms)
        optimizer = eager(torch.optim.SGD)(
            groups, lr=0.0, momentum=self.momentum, nesterov=self.nesterov, fused=_fused(groups)
        )
        if self.momentum:
            optimizer.register_step_pre_hook(_begin_late)
        return optimizer


def _begin_late(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
    """Give what gets its first gradient after others (a block that was skipped) a momentum of zeros.

    torch's fused step takes either none or all of a group's momenta. A momentum that begins at zero becomes
    the gradient, as torch's other steps have it.
    """
    state = optimizer.state
    for group in optimizer.param_groups if state else ():
        moved = [parameter for parameter in group["params"] if parameter.grad is not None]
        late = [p for p in moved if state.get(p, {}).get("momentum_buffer") is None]
        if 0 < len(late) < len(moved):
            for parameter in late:
                state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


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
        _check(self)

    def __call__(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        groups = _groups(parameters, self.weight_decay, self.decay_norms)
        return eager(torch.optim.Adam)(groups, lr=0.0, betas=self.betas, eps=self.eps, fused=_fused(groups))


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
        _check(self)

    def __call__(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        groups = _groups(parameters, self.weight_decay, self.decay_norms)
        return eager(torch.optim.AdamW)(groups, lr=0.0, betas=self.betas, eps=self.eps, fused=_fused(groups))


@dataclass(frozen=True)
class Muon:
    """Momentum made orthogonal: for matrices and convolutions, whose filters are flattened to (out, in*k*k).

    Each step is the nearest to an orthogonal matrix that `steps` iterations of Newton and Schulz come to,
    in bf16 on CUDA and float32 on a CPU, times sqrt(max(1, rows / columns)): torch.optim.Muon's, which takes
    matrices only. A loss that is multiplied by a number changes nothing. `weight_decay` shrinks the weights
    themselves by `lr * weight_decay` a step; `normalise=True` instead brings each weight, before its step, to
    the norm sqrt(rows). Biases and norms need another optimizer: see `Groups`. Reference:
    https://kellerjordan.github.io/posts/muon/.
    """

    momentum: float = 0.95
    nesterov: bool = True
    steps: int = 5
    weight_decay: float = 0.0
    normalise: bool = False

    def __post_init__(self) -> None:
        whole("Muon's steps", self.steps, 1, 99)
        _check(self)

    def __call__(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        chosen = list(parameters)
        flat = next((p for p in chosen if p.ndim < 2), None)
        if flat is not None:
            raise ValueError(
                f"Muon is for matrices and convolutions, not for a parameter of shape {tuple(flat.shape)}; "
                "give biases and norms another optimizer: Groups([Group('*.bias', SGD())], rest=Muon())"
            )
        return eager(Orthogonal)(chosen, self)


class Orthogonal(torch.optim.Optimizer):
    """The torch optimizer that `Muon` makes; its state is one momentum buffer a parameter."""

    def __init__(self, parameters: list[Parameter], options: Muon) -> None:
        super().__init__(parameters, {"lr": 0.0, **asdict(options)})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient; nothing waits for the device."""
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[tuple[Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    matrix = self._momentum(parameter, group).flatten(1)
                    by_shape.setdefault(tuple(matrix.shape), []).append((parameter, matrix))
            for pairs in by_shape.values():
                _move(pairs, group)

    def _momentum(self, parameter: Parameter, group: dict[str, Any]) -> Tensor:
        """The gradient's running sum, ahead by one step with Nesterov."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        buffer.mul_(group["momentum"]).add_(gradient)
        return gradient.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer


def _move(pairs: list[tuple[Parameter, Tensor]], group: dict[str, Any]) -> None:
    """One step for weights of one flattened shape, made orthogonal together."""
    updates = orthogonal(torch.stack([matrix for _, matrix in pairs]), group["steps"])
    rows, columns = updates.shape[1:]
    rate = group["lr"] * max(1.0, rows / columns) ** 0.5
    for (parameter, _), update in zip(pairs, updates):
        if group["normalise"]:
            # What begins at zero stays there until it is moved.
            parameter.mul_(rows**0.5 / parameter.norm().clamp(min=1e-30))
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.view(parameter.shape), alpha=-rate)


def orthogonal(matrices: Tensor, steps: int) -> Tensor:
    """Matrices (N, R, C) with their singular values brought near 1, in about (0.5, 1.5), by a quintic.

    The coefficients are those of https://kellerjordan.github.io/posts/muon/, steepest at zero. A matrix whose
    norm is below 1e-14, a ten-millionth of what is added to norms, becomes zero.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    norms = x.norm(dim=(1, 2), keepdim=True)
    # The products of what is smaller are subnormal numbers, which take a CPU a hundred times as long.
    x = x / torch.where(norms < 1e-14, torch.inf, norms + 1e-7)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Joint(torch.optim.Optimizer):
    """Optimizers of different parameters as one: their parameter groups one after another, one state."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([group for each in optimizers for group in each.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let them work on these parameter groups and this state, which a load replaces."""
        at = 0
        for each in self.optimizers:
            count = len(each.param_groups)
            each.param_groups, each.state = self.param_groups[at : at + count], self.state
            at += count

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a state that `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of every optimizer."""
        assert closure is None
        for each in self.optimizers:
            each.step()


def joint(optimizers: Sequence[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """One optimizer out of several; a single one stays itself."""
    return optimizers[0] if len(optimizers) == 1 else eager(Joint)(optimizers)
