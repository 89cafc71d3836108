"""The loop: one visible generator of epochs; everything else in this room serves it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from budgetnet.augment import view
from budgetnet.console import Watch
from budgetnet.data import Data
from budgetnet.recipe import Phase, Recipe
from budgetnet.run import Epoch
from budgetnet.schedule import value
from budgetnet.trainer.average import Average
from budgetnet.trainer.measure import Engine, Evaluation, evaluate
from budgetnet.trainer.meter import Meter
from budgetnet.trainer.parts import learning, train_mode
from budgetnet.trainer.randomness import MODEL, VIEW, mixed, order, own_randomness, reseed


class TrainingFailed(RuntimeError):
    """A training that cannot go on: what happened, where, and what is left."""


@dataclass(frozen=True)
class Kept:
    """Weights as they were after an epoch of `phase`; `validation` is theirs, where it was measured."""

    state: dict[str, Tensor]
    epoch: Epoch
    phase: Phase
    validation: Evaluation | None

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better: validation accuracy, then the lower loss."""
        accuracy = self.epoch.val_accuracy
        return (-math.inf if math.isnan(accuracy) else accuracy, -self.epoch.val_loss)


@dataclass
class Training:
    """What one training holds while it goes: the model, its average, the history, and the weights kept."""

    model: nn.Module
    data: Data
    recipe: Recipe
    engine: Engine
    watch: Watch
    average: Average | None = None
    history: list[Epoch] = field(default_factory=list)
    last: Kept | None = None
    best: Kept | None = None
    best_of_phase: Kept | None = None
    step: int = 0

    @property
    def kept(self) -> Kept | None:
        """The weights that the recipe keeps, None before the first epoch."""
        return self.best if self.recipe.keep == "best" else self.last


def loop(training: Training) -> Iterator[Epoch]:
    """Train through all phases, one epoch at a time."""
    recipe = training.recipe
    meter = Meter(recipe.phases, training.watch)
    if recipe.average is not None:
        training.average = Average(training.model, recipe.average)
    for number, phase in enumerate(recipe.phases, start=1):
        if phase.start == "best" and training.best_of_phase is not None:
            training.model.load_state_dict(training.best_of_phase.state)
        training.best_of_phase = None
        history: list[Epoch] = []
        with learning(training.model, phase.trains) as parameters:
            optimizer = recipe.optimizer(parameters)
            for at in range(phase.epochs):
                learnt = _learn(training, (number, phase), optimizer, history, meter)
                validation = _validate(training, phase)
                epoch = learnt if validation is None else _with(learnt, validation, meter.lap())
                history.append(epoch)
                training.history.append(epoch)
                _keep(training, phase, epoch, validation)
                training.watch.epoch(epoch)
                yield epoch
                if phase.stop is not None and at + 1 < phase.epochs and phase.stop.fires(history):
                    bad = f"{phase.stop.monitor} has not improved for {phase.stop.patience} epochs"
                    training.watch.say(f"stopped early after epoch {at + 1}: {bad}")
                    break


def _learn(
    training: Training,
    place: tuple[int, Phase],
    optimizer: torch.optim.Optimizer,
    history: list[Epoch],
    meter: Meter,
) -> Epoch:
    """The next epoch of a phase, not yet validated; the device is waited for once, at its end."""
    recipe, engine, data = training.recipe, training.engine, training.data
    number, phase = place
    at = len(history)
    indices = order(len(data.train), phase.views, recipe.seed, len(training.history))
    steps, size = phase.steps(len(data.train), recipe.batch_size)
    sums = torch.zeros(2, device=engine.device)
    train_mode(training.model, phase.trains)
    meter.begin(number, phase, at, steps, size)
    with own_randomness(engine.device):
        for i in range(steps):
            t = (at + i / steps) / phase.epochs
            resolution = phase.resolution_at(t)
            rate = value(phase.lr, t, epochs=phase.epochs, history=history)
            for group in optimizer.param_groups:
                group["lr"] = rate
            sums += _step(training, phase, optimizer, indices[i * size : (i + 1) * size], resolution)
            meter.step(i + 1, sums)
    train_loss, train_accuracy = (total / steps for total in sums.tolist())
    if not math.isfinite(train_loss):
        raise TrainingFailed(
            f"the loss became {train_loss} in epoch {at + 1} of phase {number} (lr {rate:.3g}); the weights "
            "of the epoch before it are kept; lower the learning rate, add a Warmup, or set the recipe's clip"
        )
    return Epoch(
        number=len(training.history) + 1,
        phase=number,
        name=phase.name,
        epoch=at + 1,
        epochs=phase.epochs,
        steps=steps,
        images=steps * size,
        lr=rate,
        resolution=resolution,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        train_seconds=meter.lap(),
    )


def _step(
    training: Training, phase: Phase, optimizer: torch.optim.Optimizer, chosen: Tensor, resolution: int
) -> Tensor:
    """One step on the training images at `chosen`: the batch's loss and accuracy, (2,) on the device."""
    recipe, engine, data = training.recipe, training.engine, training.data
    generator = torch.Generator().manual_seed(mixed(recipe.seed, VIEW, training.step))
    reseed(engine.device, mixed(recipe.seed, MODEL, training.step))
    images, labels = data.train[chosen]
    images, labels = view(
        images, labels, phase.augment, resolution=resolution, classes=len(data.classes), generator=generator
    )
    logits = engine.forward(training.model, images).float()
    loss = recipe.loss(logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    if recipe.clip is not None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if training.average is not None:
        training.average.update(training.model)
    training.step += 1
    truth = labels if labels.ndim == 1 else labels.argmax(dim=1)
    return torch.stack((loss.detach(), (logits.detach().argmax(dim=1) == truth).float().mean()))


def _validate(training: Training, phase: Phase) -> Evaluation | None:
    """The figures of the averaged weights, or of the model's own; None without a validation split."""
    if training.data.val is None:
        return None
    return evaluate(
        training.average.model if training.average is not None else training.model,
        training.data.val,
        training.data.classes,
        phase.test,
        engine=training.engine,
        resolution=phase.last_resolution,
        batch_size=phase.batch_size or training.recipe.batch_size,
        seed=mixed(training.recipe.seed, len(training.history)),
    )


def _with(epoch: Epoch, validation: Evaluation, seconds: float) -> Epoch:
    return replace(epoch, val_loss=validation.loss, val_accuracy=validation.accuracy, val_seconds=seconds)


def _keep(training: Training, phase: Phase, epoch: Epoch, validation: Evaluation | None) -> None:
    """Remember this epoch's weights as the last, and as the best where they are."""
    average = training.average
    # With an average, "last" means the model's own weights; what was validated are the averaged ones.
    own = average is None or training.recipe.keep == "last"
    source = training.model if own or average is None else average.model
    state = {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
    measured = validation if average is None or not own else None
    training.last = Kept(state, epoch, phase, measured)
    for name in ("best", "best_of_phase"):
        found = getattr(training, name)
        if found is None or training.last.rank > found.rank:
            setattr(training, name, training.last)
