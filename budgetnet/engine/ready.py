"""Ready: model, data and recipe are checked against one another before the first step, at no cost."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields

import torch
from torch import Tensor, nn

from budgetnet.augment import Step, check_data, check_within
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
    untimed,
)
from budgetnet.data import Data
from budgetnet.engine.batch import Batch
from budgetnet.engine.measure import check_shape
from budgetnet.engine.memory import out_of_memory
from budgetnet.engine.parts import chosen_parts, learning, norms
from budgetnet.engine.training import Training, own_parts
from budgetnet.loss import Loss, of_counts
from budgetnet.metrics import metric_name, scored
from budgetnet.optim import monitored_by, takes_names
from budgetnet.randomness import own_randomness
from budgetnet.recipe import FixMatch, Phase, Recipe, optimizer_of, set_rates
from budgetnet.run import Epoch
from budgetnet.schedule import Flat, Reactive, monitors, value
from budgetnet.values import nearest

TRIED = 16
"""So many images the steps are tried on, where they are not of this package."""
_ENDS = {"Softmax": "softmax", "Sigmoid": "sigmoid", "Relu": "ReLU", "Tanh": "tanh"}
"""Operations that do not belong behind the last layer of a model whose loss takes logits."""


@untimed()
@traced_once()
def check(model: nn.Module, data: Data, recipe: Recipe) -> list[str]:
    """Check model, data and recipe against one another, and give what is worth noting.

    Raises ValueError (OverBudget, DoesNotFit) for whatever would fail or mislead later.
    """
    check_kinds(model, data, recipe)
    _check_loss(of_counts(recipe.loss, data.train.counts(len(data.classes))), model)
    check_state(model)
    _check_validation(data, recipe)
    figures = _figures(recipe, data.classes)
    origin = built(model)
    if origin is not None:
        origin.budget.check(model)
    _check_watched("the recipe's keep is", {recipe.best_by}, figures)
    channels = int(data.train.images.shape[1])
    for number, phase in enumerate(recipe.phases, start=1):
        chosen_parts(model, phase.trains)
        norms(model, phase.calibrates)
        _check_rate(number, phase, figures)
        _check_watched(f"phase {number} watches", phase.monitors | _monitors(recipe, phase), figures)
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


def _check_rate(number: int, phase: Phase, figures: set[str]) -> None:
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
    unknown = sorted(monitors(phase.lr) - figures) if reactive else []
    if unknown:
        raise ValueError(
            f"phase {number}: its lr should read figures that an epoch has, such as val_loss, and reads "
            f"{unknown[0]!r}"
        )


def _figures(recipe: Recipe, classes: Sequence[str]) -> set[str]:
    """The figures that an epoch of the recipe has. Raises ValueError for a metric that fails."""
    known = {field.name for field in fields(Epoch)} | {name for name in vars(Epoch) if name[0] != "_"}
    rows = max(TRIED, 2 * len(classes))
    logits = torch.randn(rows, len(classes), generator=torch.Generator().manual_seed(0))
    for metric in recipe.metrics:
        try:
            with own_randomness(torch.device("cpu")):
                names = scored([metric], logits, torch.arange(rows) % len(classes), classes)
        except Exception as error:
            if type(error) is ValueError and str(error).startswith("the metric "):
                raise
            raise ValueError(
                f"the metric {metric_name(metric)} fails on logits ({rows}, {len(classes)}) and labels "
                f"({rows},) ({type(error).__name__}: {first_line(error)})"
            ) from error
        known |= {f"val_{name}" for name in names}
    return known


def _check_watched(who: str, watched: set[str], figures: set[str]) -> None:
    """Refuse a figure that no epoch will have."""
    for name in sorted(watched - figures):
        raise ValueError(
            f"{who} {name!r}, which no epoch has{nearest(name, sorted(figures))}; add its metric to the "
            "recipe's metrics, or name another"
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


def _named(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _check_loss(loss: Loss, model: nn.Module) -> None:
    """Refuse a loss with parameters that learn: only the model's are trained, counted and saved."""
    learns, own = [], own_parts(model)
    for part in held(loss, ""):
        named = [("", part.what)] if isinstance(part.what, Tensor) else _named(part.what)
        path = part.path.lstrip(".")
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


def check_kinds(model: nn.Module, data: Data, recipe: Recipe) -> None:
    """Raise ValueError where one of the three is something else, as where two are swapped."""
    expected = ((model, nn.Module, "an nn.Module"), (data, Data, "a Data such as stl10('data')"))
    for given, kind, words in (*expected, (recipe, Recipe, "a Recipe(phases=[Phase(...)])")):
        if not isinstance(given, kind):
            raise ValueError(f"fit takes a model, data and a recipe: expected {words}, found {given!r:.200}")
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
    wants += ["the recipe keeps the best weights"] if recipe.keeps_best else []
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


def doubts(training: Training, batch: Batch, logits: Tensor) -> Iterator[str]:
    """What is odd about the loss of a training, from the logits (N, K), with their graph, of a trial step.

    It is told by how the loss answers to logits that are moved.
    """
    rows = len(batch.images)
    outputs, labels, loss = logits.detach()[:rows].float(), batch.labels, training.recipe.loss

    def at(moved: Tensor, labels: Tensor = labels) -> float:
        with torch.no_grad():
            return float(loss(moved, labels))

    try:
        level, once, twice = at(outputs), at(outputs + 1), at(outputs + 2)
        double = at(torch.cat([outputs, outputs]), torch.cat([labels, labels]))
    except Exception:
        # A loss that takes only what the model itself gives says nothing of this.
        return
    near = 1e-3 * (1 + abs(level))
    if abs(once - level) < near and abs(twice - level) < near:
        yield from _ended(outputs, logits)
    elif once - level < -0.5 and abs(twice - level - 2 * (once - level)) < near and not _logs(outputs):
        yield (
            "the loss takes logarithms of probabilities (NLLLoss does), and the model gives logits: such a "
            "loss falls without end; take CrossEntropyLoss, or end the model with log_softmax"
        )
    if rows > 1 and abs(level) > near and abs(double - 2 * level) < near:
        yield (
            "the loss adds up over the batch (twice the images, twice the loss): the learning rate then "
            f"means {training.recipe.batch_size} times what it does for a mean, and the loss's figures grow "
            "with the batch; take reduction='mean'"
        )


def _ended(outputs: Tensor, logits: Tensor) -> Iterator[str]:
    """Whether the model ends with what a loss that takes logits does itself, or what cuts logits off."""
    sums = outputs.sum(dim=1)
    softmax = bool((outputs >= 0).all()) and bool(((sums - 1).abs() < 1e-2).all())
    last = "" if logits.grad_fn is None else logits.grad_fn.name().removesuffix("Backward0")
    last = "Softmax" if softmax and outputs.shape[1] > 1 else last
    if last in _ENDS:
        yield (
            f"the model ends with a {_ENDS[last]}, and its loss takes logits, of which it makes "
            f"probabilities itself: what is learnt is flattened; leave out the {_ENDS[last]}"
        )


def _logs(outputs: Tensor) -> bool:
    """Whether these are logarithms of probabilities already."""
    return bool((outputs.logsumexp(dim=1).abs() < 1e-2).all())


def check_views(data: Data, recipe: Recipe, device: torch.device) -> None:
    """Refuse steps of any phase whose views are not what a test shows; raises ValueError naming both."""
    rows = torch.linspace(0, len(data.train) - 1, min(len(data.train), TRIED)).round().long()
    images, labels = (each.to(device) for each in data.train[rows])
    tried: set[tuple[int, ...]] = set()
    for number, phase in enumerate(recipe.phases, start=1):
        for steps, resolution in _listed(phase):
            if tuple(map(id, steps)) in tried:
                continue
            tried.add(tuple(map(id, steps)))
            try:
                check_within(steps, images, labels, resolution=resolution, classes=len(data.classes))
            except ValueError as error:
                raise ValueError(f"phase {number}: {error}") from error.__cause__
            except Exception as error:
                # Of what runs out of memory a training says more.
                if not out_of_memory(error):
                    raise


def _listed(phase: Phase) -> Iterator[tuple[Sequence[Step], int]]:
    """The lists of steps of a phase, each with the resolution of its views."""
    resolution, pseudo = phase.resolution_at(0.0), phase.pseudo
    yield phase.augment, resolution
    yield phase.test.augment, phase.test.at(phase.last_resolution)[1]
    if isinstance(pseudo, FixMatch):
        yield pseudo.weak, resolution
        yield pseudo.strong, resolution
