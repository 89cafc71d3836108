"""Walks a model's modules: each once, by its first name, in the order in which they were defined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn
from torch.nn.parameter import is_lazy

from budgetnet.budget.hidden import refuse_hidden

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


@dataclass
class Walk:
    """The modules of a model by first name, and the further names under which some of them are found."""

    modules: dict[str, nn.Module] = field(default_factory=dict)
    aliases: dict[str, list[str]] = field(default_factory=dict)


def walk(model: nn.Module) -> Walk:
    """Every module of `model` once; ValueError where weights are not there to be counted."""
    require_module(model)
    walked = Walk()
    first_names: dict[int, str] = {}
    for name, module in _visit("", model, first_names, walked.aliases):
        tensors = (*module._parameters.values(), *module._buffers.values())
        if any(tensor is not None and is_lazy(tensor) for tensor in tensors):
            raise ValueError(
                f"{called(name, module)} has weights that do not exist before its first batch: use the "
                "module that is not lazy and say its channels, or run one batch through the model first"
            )
        if _packs(type(module).__module__):
            raise ValueError(
                f"{called(name, module)} is quantised, and packed weights can be neither counted nor "
                "trained: count and train the model in floating point, and quantise what comes out"
            )
        walked.modules[name] = module
    refuse_hidden(walked.modules)
    return walked


def check_state(model: nn.Module) -> None:
    """Raises ValueError for a model of which a file of tensors would not hold all that it computes by."""
    for name, module in walk(model).modules.items():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            raise ValueError(
                f"{called(name, module)} should keep its state in tensors, and has a get_extra_state, which "
                "is not saved: register_buffer what it holds"
            )


def _packs(home: str) -> bool:
    """Whether modules that are defined there pack quantised weights; FloatFunctional and its kin do not."""
    return home.startswith("torch.") and ".quantized" in home and not home.endswith("functional_modules")


def bare(model: nn.Module) -> nn.Module:
    """The module inside a compiled or parallel one, whose names are the saved ones; others as they are."""
    require_module(model)
    while True:
        inside = model.module if isinstance(model, _PARALLEL) else getattr(model, "_orig_mod", model)
        if inside is model or not isinstance(inside, nn.Module):
            return model
        model = inside


def require_module(model: object) -> None:
    """Refuse, with a ValueError, what is no module, such as the function that makes one."""
    if not isinstance(model, nn.Module):
        name = getattr(model, "__name__", "")
        advice = f"; build it first, model = {name}(...)" if name else ""
        raise ValueError(f"model should be an nn.Module, not {name or repr(model)[:60]}{advice}")


def called(name: str, module: nn.Module) -> str:
    """How a sentence names a module: `features.3 (Conv2d)`, or `the model itself (ResNet)`."""
    return f"{name or 'the model itself'} ({type(module).__name__})"


def _visit(
    name: str, module: nn.Module, first_names: dict[int, str], aliases: dict[str, list[str]]
) -> Iterator[tuple[str, nn.Module]]:
    waiting = [(name, module)]  # a list, not recursion: a model may be nested deeper than Python's stack
    while waiting:
        name, module = waiting.pop()
        if id(module) in first_names:
            aliases.setdefault(first_names[id(module)], []).append(name)
            continue
        first_names[id(module)] = name
        yield name, module
        prefix = f"{name}." if name else ""
        children = [(prefix + key, child) for key, child in module._modules.items() if child is not None]
        waiting.extend(reversed(children))
