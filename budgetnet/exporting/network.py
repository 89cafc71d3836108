"""Network: a copy of a model as other programs compute it, without budgetnet's own layers of few bits."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from budgetnet.layers import QuantisedConv2d, QuantisedLinear


@dataclass(frozen=True)
class Codes:
    """A weight of few bits: whole numbers int8 of its shape; times a scale each output, it is the weight."""

    codes: Tensor
    bits: int


def network(model: nn.Module) -> tuple[nn.Module, Mapping[str, Codes]]:
    """A copy, and the codes of its weights of few bits by name."""
    plain = copy.deepcopy(model)
    codes = {}
    for name, module in plain.named_modules():
        if not isinstance(module, QuantisedConv2d | QuantisedLinear):
            continue
        weight = module.rounded().detach()
        scale = module.pack(module.state_dict())["scale"].float().view(-1, *[1] * (weight.ndim - 1))
        codes[f"{name}.weight".lstrip(".")] = Codes((weight / scale).round().to(torch.int8), module.bits)
        del module.scale
        # The parent class has the same attributes but for the scale.
        module.__class__ = nn.Conv2d if isinstance(module, nn.Conv2d) else nn.Linear  # type: ignore[assignment]
        module.weight = nn.Parameter(weight, requires_grad=False)
    return plain, codes
