"""Everything that is checked and set up before the first step, so that a mistake costs nothing."""

import math
from collections.abc import Iterator
from dataclasses import fields

import torch
from torch import Tensor, nn

from budgetnet.augment import check_data, test_view
from budgetnet.budget import (
    DoesNotFit,
    NotFromScratch,
    built,
    check_constants,
    check_fit,
    check_state,
    first_line,
    held,
    ledger,
    stated,
    traced_once,
    twin,
)
from budgetnet.data import Data, Split
from budgetnet.engine.measure import Engine, check_shape, trying
from budgetnet.engine.parts import chosen_parts, learning, norms
from budgetnet.layers import Standardise
from budgetnet.loss import Loss
from budgetnet.optim import monitored_by, takes_names
from budgetnet.recipe import Phase, Recipe, optimizer_of, set_rates
from budgetnet.run import Epoch
from budgetnet.schedule import Flat, Reactive, monitors, value

FITTED, FITTED_AT_ONCE = 5000, 500
"""To how many training images a layer is fitted, and how many of them are shown at once."""


@traced_once()
def check(model: nn.Module, data: Data, recipe: Recipe) -> list[str]:
    """Check model, data and recipe against one another, and give what is worth noting.

    Raises ValueError (OverBudget, DoesNotFit) for whatever would fail or mislead later.
    """
    _check_kinds(model, data, recipe)
    _check_loss(recipe.loss, model)
    check_state(model)
    _check_validation(data, recipe)
    origin = built(model)
    if origin is not None:
        origin.budget.check(model)
    channels = int(data.train.images.shape[1])
    for number, phase in enumerate(recipe.phases, start=1):
        chosen_parts(model, phase.trains)
        norms(model, phase.calibrates)
        _check_rate(number, phase)
        _check_optimizer(model, recipe, phase)
        if phase.pseudo is not None and data.unlabelled is None:
            raise ValueError(
                f"phase {number} has {type(phase.pseudo).__name__}, and {data.name} has no unlabelled "
                "images; load it with unlabelled=True, or give Data(unlabelled=)"
            )
        for step in phase.augment:
            check_data(step, data)
            taught = stated(step)
            if taught and origin is not None and origin.budget.scratch:
                raise NotFromScratch(
                    f"the budget asks for a model from scratch, and its teacher in phase {number} began from "
                    f"external weights ({taught}); give a teacher from scratch, or leave out scratch=True"
                )
        for resolution in phase.resolutions:
            try:
                check_fit(model, resolution, channels=channels)
            except DoesNotFit as error:
                raise DoesNotFit(f"phase {number} does not fit its model: {error}") from None
    check_logits(model, len(data.classes), recipe.phases[0].resolutions[0], channels)
    check_constants(model, recipe.phases[0].resolutions[0], channels=channels)
    return [*_small_epochs(data, recipe), *_maps(model, recipe, channels)]


def _check_rate(number: int, phase: Phase) -> None:
    """Refuse a schedule of the user's own that fails, or gives what is no rate."""
    reactive = isinstance(phase.lr, Reactive)
    for t in (0.0, 0.5, math.nextafter(1.0, 0.0)) if phase.learns else ():
        epochs = math.floor(t * phase.epochs)
        where = f"after {epochs} epochs" if reactive else f"at {100 * t:.0f} % of the phase"
        try:
            rate = float(value(phase.lr, t, epochs=phase.epochs, history=[Flat()] * epochs))
        except Exception as error:
            raise ValueError(
                f"phase {number}: its lr fails {where} ({type(error).__name__}: {first_line(error)})"
            ) from error
        if not 0 <= rate < math.inf:
            raise ValueError(f"phase {number}: its lr should be finite and 0 or more, and is {rate} {where}")
    known = {field.name for field in fields(Epoch)} | {name for name in vars(Epoch) if name[0] != "_"}
    unknown = sorted(monitors(phase.lr) - known) if reactive else []
    if unknown:
        raise ValueError(
            f"phase {number}: its lr should read figures that an epoch has, such as val_loss, and reads "
            f"{unknown[0]!r}"
        )


def _check_optimizer(model: nn.Module, recipe: Recipe, phase: Phase) -> None:
    """Refuse groups that the model does not have, and rates that do not fit the phase."""
    make = phase.optimizer or recipe.optimizer
    if not phase.learns or not takes_names(make):
        return
    with learning(model, phase.trains) as parameters:
        set_rates(optimizer_of(make, model, parameters), 0.0, 0.0, epochs=phase.epochs, history=())


def _maps(model: nn.Module, recipe: Recipe, channels: int) -> list[str]:
    """What the ledger remarks on at the resolution that the model learns at."""
    rows = ledger(model, recipe.phases[0].last_resolution, channels=channels).rows
    return [f"{row.name or 'the model itself'}: {row.note}" for row in rows if row.note]


def _small_epochs(data: Data, recipe: Recipe) -> list[str]:
    """A sentence for each phase whose epochs are shorter than one batch."""
    notes = []
    for number, phase in enumerate(recipe.phases, start=1):
        size = phase.steps(len(data.train), recipe.batch_size)[1]
        asked = phase.batch_size or recipe.batch_size
        if size < asked:
            notes.append(
                f"an epoch of phase {number} is one step of {size} images, under its batch size {asked}"
            )
    return notes


def prepare(model: nn.Module, train: Split, engine: Engine, resolution: int) -> None:
    """Move the model to its device, and give its layers what they take from the training images.

    A Standardise without statistics gets theirs; then each other layer that is `Fitting`, in the model's
    order, gets what arrives at it when some of the images are shown at `resolution` pixels.
    """
    for module in model.modules():
        if isinstance(module, Standardise) and not module.fitted:
            module.fit(*train.mean_std())
    model.to(device=engine.device, memory_format=engine.memory_format)  # type: ignore[call-overload]
    for name, module in model.named_modules():
        # Not by isinstance: from Python 3.12 on a protocol does not see the buffers of a module.
        fit_to = getattr(module, "fit_to", None)
        if callable(fit_to) and not getattr(module, "fitted", True):
            fit_to(_arriving(model, name, train, engine, resolution))


def on_device(loss: Loss, device: torch.device, model: nn.Module) -> Loss:
    """A copy of the loss whose tensors (class weights) are on the device; itself where they are there.

    What it holds of the model itself stays the model's.
    """
    own = _own(model)
    tensors = [tensor for found in held(loss, "loss") for tensor in found.tensors if id(tensor) not in own]
    return loss if all(tensor.device == device for tensor in tensors) else twin(loss, device, memo=own)


def _own(model: nn.Module) -> dict[int, object]:
    """A model's modules and tensors by their identity."""
    return {id(each): each for each in (*model.modules(), *model.parameters(), *model.buffers())}


def _named(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _check_loss(loss: Loss, model: nn.Module) -> None:
    """Refuse a loss with parameters that learn: only the model's are trained, counted and saved."""
    learns, own = [], _own(model)
    for found in held(loss, ""):
        named = [("", found.what)] if isinstance(found.what, Tensor) else _named(found.what)
        path = found.path.lstrip(".")
        learns += [
            ".".join(filter(None, (path, name)))
            for name, each in named
            if each.requires_grad and each.is_leaf and id(each) not in own
        ]
    if learns:
        words = getattr(loss, "__name__", type(loss).__name__)
        more = f" and {len(learns) - 2} more" if len(learns) > 2 else ""
        shown = ", ".join(learns[:2]) or "a tensor"
        raise ValueError(
            f"the loss {words} should have nothing that learns, and has {shown}{more}: only the "
            "model's parameters are trained, counted and saved; put them into the model, whose forward may "
            "apply them, or register_buffer what is constant"
        )


class _Arrived(Exception):
    """What a layer is given, taken on its way: the rest of the model need not run."""


def _arriving(model: nn.Module, name: str, train: Split, engine: Engine, resolution: int) -> Iterator[Tensor]:
    """Batches of what arrives at the layer `name` in a test of training images spread over the split."""

    def take(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise _Arrived(inputs[0])

    count = min(len(train), FITTED)
    # Spread, because the images of a folder come class by class.
    rows = torch.linspace(0, len(train) - 1, count, dtype=torch.float64).round().long()
    for chosen in torch.split(rows, FITTED_AT_ONCE):
        stored = train[chosen][0].to(engine.device, non_blocking=True)
        images = test_view(stored, resize=resolution, crop=resolution)
        hook = model.get_submodule(name).register_forward_pre_hook(take)
        try:
            with trying(model):
                model(images)
        except _Arrived as arrived:
            batch: Tensor = arrived.args[0]
        else:
            raise ValueError(f"{name} is fitted to what it is given, and the model gives it nothing")
        finally:
            hook.remove()
        yield batch


def _check_kinds(model: nn.Module, data: Data, recipe: Recipe) -> None:
    expected = ((model, nn.Module, "an nn.Module"), (data, Data, "a Data such as stl10('data')"))
    for found, kind, words in (*expected, (recipe, Recipe, "a Recipe(phases=[Phase(...)])")):
        if not isinstance(found, kind):
            raise ValueError(f"fit takes a model, data and a recipe: expected {words}, found {found!r:.200}")
    if len(data.train) < 2:
        raise ValueError(f"training needs at least 2 images, and {data.name} has {len(data.train)}")


def _monitors(recipe: Recipe, phase: Phase) -> set[str]:
    """The figures that the recipe's own optimizer reads in a phase."""
    return monitored_by(recipe.optimizer) if phase.optimizer is None and phase.learns else set()


def _check_validation(data: Data, recipe: Recipe) -> None:
    measured = "val" in recipe.measure
    if data.val is not None and len(data.val) and measured:
        return
    wants = [
        f"phase {k} watches {m}"
        for k, p in enumerate(recipe.phases, 1)
        for m in sorted(p.monitors | _monitors(recipe, p))
        if m.startswith("val_")
    ]
    wants += [
        f"phase {k} starts from the best weights" for k, p in enumerate(recipe.phases, 1) if p.start == "best"
    ]
    wants += ["the recipe keeps the best weights"] if recipe.keep == "best" else []
    if wants:
        if data.val is not None and not measured:
            raise ValueError(f"{wants[0]}, and the recipe's measure leaves it out; add 'val' to it")
        raise ValueError(
            f"{wants[0]}, and {data.name} has no validation images; hold some out with held_out="
        )


def check_logits(model: nn.Module, classes: int, resolution: int, channels: int) -> None:
    """Refuse a model that cannot take images of this size, or does not tell this many classes apart."""
    check_fit(model, resolution, channels=channels)
    shape = ledger(model, resolution, channels=channels).rows[0].shape
    if shape is not None:
        check_shape(tuple(shape), classes)
