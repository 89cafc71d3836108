"""Again: a file that was just written is loaded into a fresh model, which should give the same logits."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from budgetnet.budget import built, external
from budgetnet.modelfile.card import Card
from budgetnet.modelfile.file import BadModelFile, read_card
from budgetnet.modelfile.loading import fill, load
from budgetnet.randomness import own_randomness

_SIDES = (32, 64, 224)
"""Pixels tried for a model whose card names none."""
_CLOSE = 1e-3
"""How far logits may differ: a fresh model's tensors lie in another order, and are summed in it."""


def difference(path: Path, model: nn.Module) -> str:
    """Why the file at `path` is not the model, in a sentence; "" where it is, or no fresh one can be made.

    The model is looked at in evaluation mode, with two images, and left in the modes that it was in.
    """
    try:
        with own_randomness():
            card = read_card(path)
            fresh = _fresh(path, card, model)
    except BadModelFile as error:
        return f"the file that was saved cannot be loaded again: {error}"
    except Exception:
        # A builder that works once, or a model that cannot be copied: nothing is known.
        return ""
    pair = _logits_of_both(model, fresh, card)
    if pair is None:
        return ""
    ours, theirs = pair
    apart = float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf")
    if apart <= _CLOSE * (1 + float(ours.abs().max())):
        return ""
    return (
        f"{path} does not give what the model gives: loaded into a fresh one, logits are {apart:.3g} off, "
        "since what the model computes by is not all in its parameters and buffers; register_buffer what is "
        "missing, and train or save it again"
    )


def _fresh(path: Path, card: Card, model: nn.Module) -> nn.Module:
    """A model made anew with the file's tensors; of no known builder, a copy whose own were wiped out."""
    origin = built(model)
    if card.builder is not None:
        return load(path)
    if origin is not None and not external(model):
        return load(path, origin.make, *origin.args, **origin.kwargs)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in copied.state_dict(keep_vars=True).values():
            tensor.zero_()
    fill(copied, path)
    return copied


def _logits_of_both(model: nn.Module, fresh: nn.Module, card: Card) -> tuple[Tensor, Tensor] | None:
    """The logits of both for the same images; None where the model takes none, or answers as it likes."""
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    fresh.to(device)
    drawn = torch.Generator().manual_seed(0)
    for side in (card.crop,) if card.crop is not None else _SIDES:
        images = torch.rand(2, card.channels, side, side, generator=drawn).to(device)
        try:
            ours, again, theirs = (_logits(each, images) for each in (model, model, fresh))
        except Exception:
            continue
        sound = bool(ours.isfinite().all()) and torch.equal(ours, again)
        return (ours, theirs) if sound else None
    return None


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    with _tested(model), own_randomness(), torch.no_grad():
        torch.default_generator.manual_seed(0)
        logits: Tensor = model(images)
        return logits.detach().float().cpu()


@contextmanager
def _tested(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
