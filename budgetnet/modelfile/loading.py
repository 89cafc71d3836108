"""Saving models to files and loading them back; a file is only ever data, and what it asks for is bounded."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

import budgetnet.models as models
from budgetnet.budget import DESCRIPTION, Budget, NotFromScratch, OverBudget, built, saved_tensors, untimed
from budgetnet.data import Past, remember
from budgetnet.files import Stored
from budgetnet.layers import Quantised
from budgetnet.modelfile.arguments import check_repeats, decoded
from budgetnet.modelfile.bounds import TooMuch, check_run, ordinary
from budgetnet.modelfile.card import Card, described
from budgetnet.modelfile.file import BadModelFile, opened, refusing
from budgetnet.modelfile.packing import packed_forms, unpacked
from budgetnet.modelfile.shipped import resolved
from budgetnet.run import MODEL
from budgetnet.text import one_line

_PARTS = 16
"""So many modules and parameters a network may have for each tensor of its file; about four are usual."""


@untimed()
def load(
    path: str | Path,
    make: Callable[..., nn.Module] | None = None,
    *args: Any,
    device: str | torch.device = "cpu",
    **kwargs: Any,
) -> nn.Module:
    """The trained model of a run's folder or of a model file, in evaluation mode, ready for Trainer.predict.

    A name such as "stl10_afternoon", where no such file lies, is a model that comes along, in `weights/`.
    "hub:OWNER/NAME@DIGEST" is fetched from a model hub, by the SHA-256 of its model.safetensors, and kept.

    A model of `budgetnet.models` is rebuilt from the file's own card. Any other builder is named by the
    caller: `load("runs/mine-1", my_model, classes=10)`; no code named by a file is ever imported. So it is
    for a safetensors file of another program, too. What a wrapper (torch.compile, DistributedDataParallel,
    Lightning) has put before each of the tensors' names is left out. The card's budget is checked again.
    Raises BadModelFile, a ValueError, for a file that is not what was saved or does not fit its model, and
    OverBudget for a budget that is not kept. External weights that a model began from are not needed; its
    attribute `external` still names them.
    """
    target = resolved(path)
    if target.is_dir():
        target = target / MODEL
    stored, card = opened(target, foreign=make is not None)
    if make is None:
        model = _from_card(card, stored)
    else:
        model = _built(card, stored, _quantised(card, make), args, kwargs)
    _fill(model, stored, plainly=make is None)
    if stored.words is None:
        card = described(model)
    if card.external:
        model.external = card.external  # type: ignore[assignment]
        origin = built(model)
        if origin is not None:
            origin.budget.check(model)  # as it was built anew, it looked as if from scratch
    model.card = card  # type: ignore[assignment]
    remember(model, Past(classes=card.classes, folder=str(target.parent if target.name == MODEL else target)))
    ready: nn.Module = model.eval().to(device)
    if card.quantised is not None:
        # As they lay when it was evaluated: sums are taken in the order of the memory, to the last bit.
        ready.to(memory_format=torch.channels_last)
    return ready


def fill(model: nn.Module, path: Path) -> None:
    """Load the file's tensors into `model`. Raises BadModelFile where they are not those of `model`."""
    _fill(model, opened(path)[0])


def _fill(model: nn.Module, stored: Stored, *, plainly: bool = False) -> None:
    """Load a file's tensors; `plainly` into a model of known layers, without torch's own way of loading.

    That looks at all of a model's names for each of its layers.
    """
    stored = _unwrapped(model, stored)
    _compare(model, stored)
    with refusing(stored.path, "is damaged"):
        tensors = unpacked(model, stored.tensors())
    if not plainly:
        model.load_state_dict(tensors, strict=False)
        return
    with torch.no_grad():
        for name, tensor in saved_tensors(model).items():
            tensor.copy_(tensors[name])


def _from_card(card: Card, stored: Stored) -> nn.Module:
    path = stored.path
    if card.builder is None:
        raise BadModelFile(
            f"{path} holds {one_line(card.origin) or 'a model'}, which budgetnet cannot build by itself; "
            f"name its builder: budgetnet.load({str(path)!r}, make, ...)"
        )
    if card.builder not in models.__all__ or card.builder == "inherit":
        raise BadModelFile(
            f"{path}'s card names the builder {card.builder!r:.80}, which budgetnet.models does not have"
        )
    make = getattr(models, card.builder)
    try:
        args, keywords = decoded(card.arguments)
        if "weights" in keywords:
            keywords = {**keywords, "weights": None}  # a load fetches nothing, whatever a card says
        check_repeats(make, args, keywords, len(stored.shapes))
        # Shapes are compared before any memory is taken: a card may promise more than the file holds.
        make = _quantised(card, make)
        with torch.device("meta"), _bounded(len(stored.shapes)):
            planned = make(*args, **keywords)
        _compare(planned, _unwrapped(planned, stored))
        widest = max((len(tensor) for tensor in saved_tensors(planned).values() if tensor.ndim), default=1)
        if not ordinary([args, keywords], widest, card.crop):
            check_run(planned, card.channels, card.crop)
        return _built(card, stored, make, tuple(args), keywords)
    except (OverBudget, NotFromScratch, BadModelFile, MemoryError):
        raise
    except TooMuch as error:
        raise BadModelFile(f"{path}'s card describes a network that asks for {error}") from None
    except Exception as error:  # whatever torch says of arguments that nobody would write
        reason = one_line(str(error)) or type(error).__name__
        raise BadModelFile(f"{path} has a damaged card: {reason}") from None


def _quantised(card: Card, make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The builder, with the bits that a card says, where it says any and the builder does not."""
    if card.quantised is None or isinstance(make, Quantised):
        return make
    return Quantised(make, **card.quantised)


@contextmanager
def _bounded(tensors: int) -> Iterator[None]:
    """Within it a network that grows far beyond the tensors of its file is not built to the end."""
    thread, left = threading.get_ident(), _PARTS * (tensors + _PARTS)

    def count(*_: object) -> None:
        nonlocal left
        if threading.get_ident() == thread:
            left -= 1
            if left < 0:
                raise ValueError(f"it describes a network of far more than its file's {tensors:,} tensors")

    hooks = (register_module_module_registration_hook, register_module_parameter_registration_hook)
    handles = [register(count) for register in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _built(
    card: Card,
    stored: Stored,
    make: Callable[..., nn.Module],
    args: tuple[Any, ...],
    keywords: dict[str, Any],
) -> nn.Module:
    """What `make` makes, within the card's budget; torch's own randomness is left as found."""
    with torch.random.fork_rng(devices=[]):
        if not card.budget:
            return make(*args, **keywords)
        budget = Budget.read(card.budget)
        if budget.bytes is None or budget.stored is not None:
            return budget.build(make, *args, **keywords)
        # What is on the disk is loaded, also where an earlier budgetnet counted its tensors alone.
        wider = replace(budget, bytes=budget.bytes + len(stored.head) + DESCRIPTION)
        model: nn.Module = wider.build(make, *args, **keywords)
        origin = built(model)
        assert origin is not None
        model.built = replace(origin, budget=budget)  # type: ignore[assignment]
        return model


def _unwrapped(model: nn.Module, stored: Stored) -> Stored:
    """A file's tensors by the names of `model`, where a wrapper of that kind was saved.

    Before each name torch.compile puts `_orig_mod.`, parallel models `module.`, engines `_forward_module.`,
    and whoever holds the model the name by which he does, such as `model.`.
    """
    names = saved_tensors(model).keys()
    longest = max(names, key=len, default="")
    wrappers = {name.removesuffix(longest) for name in stored.shapes if name.endswith(f".{longest}")}
    for wrapper in wrappers if names else ():
        if {f"{wrapper}{name}" for name in names} == stored.shapes.keys():
            return stored.without(wrapper)
    return stored


def _compare(model: nn.Module, stored: Stored) -> None:
    """Refuse a file whose tensors are not those of `model`, by name, shape and kind of number."""
    saved = saved_tensors(model)
    expected = {name: (list(tensor.shape), _kind(tensor.dtype)) for name, tensor in saved.items()}
    expected |= {name: (list(shape), _kind(dtype)) for name, (dtype, shape) in packed_forms(model).items()}
    kinds = stored.kinds
    shapes = {name: (shape, _stored_kind(kinds[name])) for name, shape in stored.shapes.items()}
    for name in [*expected, *sorted(shapes)]:
        shape, kind = expected.get(name, ("none", ""))
        shape_there, kind_there = shapes.get(name, ("none", ""))
        if (shape, kind) != (shape_there, kind_there):
            of, found_of = (f" of {kind}s", f" of {kind_there}s") if shape == shape_there else ("", "")
            raise BadModelFile(
                f"{stored.path} does not fit its model: {one_line(name)} should have shape {shape}{of}, "
                f"found {str(shape_there)[:80]}{found_of}"
            )


def _kind(dtype: torch.dtype) -> str:
    return "float" if dtype.is_floating_point else "complex number" if dtype.is_complex else "integer"


def _stored_kind(dtype: str) -> str:
    """The same for safetensors' name of a dtype, such as "BF16"; truth values count as integers in both."""
    if dtype.startswith(("F", "BF")):
        return "float"
    return "complex number" if dtype.startswith("C") else "integer"
