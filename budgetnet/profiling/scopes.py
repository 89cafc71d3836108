"""Scopes: names that torch's profiler shows for the parts of a step and the modules, while it watches."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.profiler import record_function

from budgetnet.profiling.values import Operator

SHOWN = 10
"""How many operators and modules a profile lists."""
PART, MODULE, EVALUATION = "part: ", "module: ", "evaluation"


class Scopes:
    """Opens a scope as a part of a step begins, and closes the one before."""

    def __init__(self) -> None:
        self._scope = ExitStack()

    def part(self, name: str) -> None:
        """From here on the time goes to the part called `name`; "" to none."""
        self._scope.close()
        if name:
            self._scope.enter_context(record_function(f"{PART}{name}"))


@contextmanager
def modules_named(model: nn.Module) -> Iterator[None]:
    """Within it the forward pass of each innermost module of `model` is a scope."""
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if next(module.children(), None) is None:
                enter, leave = _hooks(f"{MODULE}{name or '(itself)'} ({type(module).__name__})")
                for handle in (
                    module.register_forward_pre_hook(enter),
                    module.register_forward_hook(leave, always_call=True),
                ):
                    hooks.callback(handle.remove)
        yield


def _hooks(name: str) -> tuple[Callable[..., None], Callable[..., None]]:
    scopes: list[Any] = []

    def enter(module: nn.Module, given: Any) -> None:
        scopes.append(record_function(name))
        scopes[-1].__enter__()

    def leave(module: nn.Module, given: Any, output: Any) -> None:
        if scopes:
            scopes.pop().__exit__(None, None, None)

    return enter, leave


def operators(events: Any, steps: int) -> tuple[Operator, ...]:
    """The costliest operators among torch's events of `steps` steps, by their own time."""
    costs = (
        (event.name, event.self_cpu_time_total, event.self_device_time_total)
        for event in _of_steps(events)
        if not event.name.startswith((PART, MODULE, "ProfilerStep"))
    )
    return _costliest(costs, steps)


def modules(events: Any, steps: int) -> tuple[Operator, ...]:
    """The costliest innermost modules, by the time of their forward pass with all that it calls."""
    costs = (
        (event.name.removeprefix(MODULE), event.cpu_time_total, event.device_time_total)
        for event in _of_steps(events)
        if event.name.startswith(MODULE)
    )
    return _costliest(costs, steps)


def _of_steps(events: Any) -> Iterator[Any]:
    """The host's events before the evaluation; what a kernel took is in those of the operator it is of."""
    evaluation = [event.time_range.start for event in events if event.name == f"{PART}{EVALUATION}"]
    until = min(evaluation, default=math.inf)
    for event in events:
        if event.device_type.name == "CPU" and event.time_range.start < until:
            yield event


def _costliest(costs: Iterable[tuple[str, float, float]], steps: int) -> tuple[Operator, ...]:
    """The costliest names, from (name, microseconds on the host, microseconds on the device) a call."""
    sums: dict[str, tuple[int, float, float]] = {}
    for name, host, device in costs:
        calls, before, after = sums.get(name, (0, 0.0, 0.0))
        sums[name] = calls + 1, before + host, after + device
    each = (
        Operator(name, calls / steps, host / 1e6 / steps, device / 1e6 / steps)
        for name, (calls, host, device) in sums.items()
    )
    return tuple(sorted(each, key=lambda one: -one.cost)[:SHOWN])
