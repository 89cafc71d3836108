"""Refuses a model whose forward reads tensors that are neither moved to a device nor saved."""

from __future__ import annotations

from torch import nn

from budgetnet.budget.fit import watched
from budgetnet.budget.hidden import hidden
from budgetnet.budget.limits import built
from budgetnet.budget.meta import build_on_meta
from budgetnet.budget.modules import walk


def check_constants(model: nn.Module, resolution: int, *, channels: int) -> None:
    """Raises ValueError for a tensor in a plain attribute that the forward reads in evaluation mode: it is
    not moved to a device, and a saved model has none of it.

    Views of registered tensors pass, and so does what the model's builder does not make: a forward has.
    """
    # What is computed from weights, as torch.nn.utils.weight_norm does before each forward, is no constant.
    own = {
        each.path for each in hidden(walk(model).modules) if all(tensor.is_leaf for tensor in each.tensors)
    }
    if not own:
        return
    watch, _ = watched(model, resolution, channels)
    own_constants = [each for each in watch.constants if each.path in own]
    how = built(model)
    if how is not None and own_constants:
        fresh = build_on_meta(how.make, how.args, how.kwargs, limits={})
        planned_constants = {each.path for each in hidden(walk(fresh).modules)}
        own_constants = [each for each in own_constants if each.path in planned_constants]
    for each in own_constants:
        name = each.path.rpartition(".")[2].partition("[")[0]
        raise ValueError(
            f"{type(model).__name__} should register the tensors that its forward reads, and {each.path}, of "
            f"{sum(tensor.numel() for tensor in each.tensors):,} numbers, is a plain attribute, which is "
            f"neither moved to a device nor saved: write self.register_buffer({name!r}, ...)"
        )
