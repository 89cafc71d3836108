"""How a network begins with the weights of another, such as a deeper one with those of a shallower one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from budgetnet.budget import external
from budgetnet.data import hand_on


def inherit(model: nn.Module, trained: nn.Module, parts: Sequence[str] | None = None) -> list[str]:
    """Copy into `model`, in place, every tensor of `trained` that it has by the same name and shape.

    Parameters and buffers, the statistics of norms and of pixels among them; with `parts`, names of modules
    as `named_modules` gives them, only what lies inside of those. Returns the names that were copied, in the
    order of `trained`; the rest of `model` stays as it was. A model that inherits from one with external
    weights is marked as such too. Raises ValueError, before anything is copied, where no parameter fits, and
    for a part that either model lacks or in which nothing fits. Reference: https://arxiv.org/abs/1409.1556,
    section 3.1.

    >>> trained, deeper = nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3))
    >>> inherit(deeper, trained)
    ['0.weight', '0.bias']
    """
    for role, network in (("model", model), ("trained", trained)):
        if not isinstance(network, nn.Module):
            raise ValueError(f"inherit: {role} should be a module, not {type(network).__name__}")
    own, theirs = model.state_dict(), trained.state_dict()
    fitting = [name for name, tensor in theirs.items() if name in own and own[name].shape == tensor.shape]
    if parts is None:
        learnt = dict(model.named_parameters())
        if not any(name in learnt for name in fitting):
            raise ValueError(
                f"inherit: no parameter of the trained {type(trained).__name__} fits this model by name and "
                f"shape; it has {_some(trained)}, and the model {_some(model)}"
            )
    else:
        fitting = _within(parts, fitting, model, trained)
    with torch.no_grad():
        for name in fitting:
            own[name].copy_(theirs[name])
    # What begins with external weights is not from scratch either.
    if origins := " and ".join(dict.fromkeys(filter(None, map(external, (model, trained))))):
        model.external = origins  # type: ignore[assignment]
    hand_on(model, trained)
    return fitting


def _within(parts: Sequence[str], fitting: list[str], model: nn.Module, trained: nn.Module) -> list[str]:
    if isinstance(parts, str) or not parts:
        raise ValueError(
            f'inherit: parts should be a tuple of one name or more, not {parts!r}; write parts=("head",)'
        )
    for part in parts:
        for role, network in (("trained model", trained), ("model", model)):
            if part not in dict(network.named_modules(remove_duplicate=False)):
                tops = ", ".join(name for name, _ in network.named_children())
                raise ValueError(f"inherit: the {role} has no part {part!r}; it has {tops}")
        if not any(_inside(name, part) for name in fitting):
            raise ValueError(
                f"inherit: nothing in part {part!r} fits: the trained model's has "
                f"{_shapes(trained, part)}, and the model's {_shapes(model, part)}"
            )
    return [name for name in fitting if any(_inside(name, part) for part in parts)]


def _inside(name: str, part: str) -> bool:
    return part == "" or name.startswith(f"{part}.")


def _shapes(model: nn.Module, part: str) -> str:
    tensors: dict[str, Tensor] = model.get_submodule(part).state_dict()
    listed = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[:2]]
    return " and ".join(listed) + (" and more" if len(tensors) > 2 else "") if listed else "no tensors"


def _some(model: nn.Module) -> str:
    names = list(model.state_dict())
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"
