"""Which parts of a model learn in a phase: the others keep parameters, statistics and dropout as they are."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.modules.batchnorm import _BatchNorm

from budgetnet.recipe import EMA
from budgetnet.recipe import covers as _covers


def chosen_parts(model: nn.Module, trains: Sequence[str] | None) -> tuple[list[Parameter], set[str]]:
    """The parameters that learn, and the names of the modules that stay as they are."""
    if trains is not None and not trains:
        return [], {name for name, _ in model.named_modules()}
    if trains is None:
        learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not learns:
            raise ValueError("the model has no parameter that can learn: each has requires_grad=False")
        return learns, set()
    parameters = model.named_parameters(remove_duplicate=False)
    names = [name for name, _ in model.named_modules()] + [name for name, _ in parameters]
    for pattern in trains:
        if not any(_covers(pattern, name) for name in names if name):
            tops = ", ".join(name for name, _ in model.named_children())
            raise ValueError(
                f"Phase's trains names {pattern!r}, which the model does not have; it has {tops}"
            )
    # A weight that parts share is of each of them.
    named = model.named_parameters(remove_duplicate=False)
    covered = [parameter for name, parameter in named if any(_covers(pattern, name) for pattern in trains)]
    chosen = list({id(each): each for each in covered if each.requires_grad}.values())
    if not chosen:
        raise ValueError(
            f"Phase's trains {list(trains)} covers no parameter that can learn; name a part with weights"
        )
    still = {
        name for name, _ in model.named_modules() if not any(_covers(pattern, name) for pattern in trains)
    }
    return chosen, still


@contextmanager
def learning(model: nn.Module, trains: Sequence[str] | None) -> Iterator[list[Parameter]]:
    """Within it only the parameters of the named parts require gradients; gives those parameters.

    Those of them that stop before its end require gradients again after it.
    """
    chosen, _ = chosen_parts(model, trains)
    ids = {id(parameter) for parameter in chosen}
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in ids]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        yield chosen
    finally:
        for parameter in (*frozen, *chosen):
            parameter.requires_grad_(True)


def norms(model: nn.Module, calibrates: Sequence[str]) -> list[_BatchNorm]:
    """The batch norms with running statistics in the parts that `calibrates` names; ["*"] names all."""
    modules = []
    for pattern in calibrates:
        covered = [
            module
            for name, module in model.named_modules()
            if isinstance(module, _BatchNorm) and module.track_running_stats and _covers(pattern, name)
        ]
        if not covered:
            raise ValueError(
                f"Phase's calibrates names {pattern!r}, where the model has no batch norm with running "
                "statistics"
            )
        modules += [module for module in covered if module not in modules]
    return modules


def train_mode(model: nn.Module, trains: Sequence[str] | None, calibrates: Sequence[str] = ()) -> None:
    """Training mode for the parts that learn and the norms to calibrate, evaluation mode for the others."""
    model.train()
    if trains is None:
        return
    _, still = chosen_parts(model, trains)
    for name, module in model.named_modules():
        if name in still:
            module.training = False
    for norm in norms(model, calibrates):
        norm.training = True


def forget(model: nn.Module, calibrates: Sequence[str]) -> None:
    """Begin the statistics of these norms anew."""
    for norm in norms(model, calibrates):
        norm.reset_running_stats()


@contextmanager
def plain_mean(models: Iterable[nn.Module], calibrates: Sequence[str]) -> Iterator[None]:
    """Within it `count_batch` may weigh the batches of these norms; their momentum is put back after it."""
    chosen = [norm for model in models for norm in norms(model, calibrates)]
    before = [norm.momentum for norm in chosen]
    try:
        yield
    finally:
        for norm, momentum in zip(chosen, before, strict=True):
            norm.momentum = momentum


def count_batch(model: nn.Module, calibrates: Sequence[str], number: int) -> None:
    """Let the next batch, the `number`-th since these norms began anew, count as much as each before it.

    A momentum of None says the same, and has the host ask the device for its count of batches.
    """
    for norm in norms(model, calibrates):
        norm.momentum = 1 / number


def _tensors(model: nn.Module) -> list[Tensor]:
    return list(chain(model.parameters(), model.buffers()))


class Average:
    """A copy of `model` that follows it as `ema` says. Its `model` is always in evaluation mode."""

    # torch's AveragedModel keeps its counter on the device and reads it at every update, which waits.

    def __init__(self, model: nn.Module, ema: EMA) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.ema = ema
        self.updates = 0

    def update(self, model: nn.Module) -> None:
        """Move towards `model` by one step; integer buffers are copied."""
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        weight = 1 - self.ema.at(self.updates)
        with torch.no_grad():
            torch._foreach_lerp_([mine for mine, _ in floating], [theirs for _, theirs in floating], weight)
            if counts:
                torch._foreach_copy_([mine for mine, _ in counts], [theirs for _, theirs in counts])
        self.updates += 1
