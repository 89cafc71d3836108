"""The loop: one visible generator of epochs; everything else in this room serves it."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from budgetnet.engine.finite import Sentry, Undo, check_finite, check_loss
from budgetnet.engine.measure import Evaluation, evaluate
from budgetnet.engine.meter import Meter
from budgetnet.engine.parts import Average, forget, learning, plain_mean, train_mode
from budgetnet.engine.randomness import mixed, order, own_randomness
from budgetnet.engine.sources import joined, label, reading_ahead
from budgetnet.engine.speed import AVERAGE, BACKWARD, FORWARD, GATHER, OPTIMIZER, VIEWS
from budgetnet.engine.state import restore_optimizer, roles
from budgetnet.engine.step import calibration, take
from budgetnet.engine.training import Kept, Training
from budgetnet.pseudo import PseudoLabels
from budgetnet.recipe import Phase, optimizer_of, set_rates
from budgetnet.run import Epoch
from budgetnet.schedule import value

AfterStep = Callable[[Training], None]


def loop(training: Training, after_step: AfterStep) -> Iterator[Epoch]:
    """Train through all phases, one epoch at a time, from wherever `training` is.

    `after_step` is called between two steps, where everything that makes the rest is in `training`; what it
    raises ends the loop there.
    """
    recipe = training.recipe
    meter = Meter(recipe.phases, training.watch)
    if recipe.average is not None and training.average is None:
        training.average = Average(training.model, recipe.average)
    for number, phase in enumerate(recipe.phases, start=1):
        if number > training.phase:
            _begin(training, number, phase)
        if number == training.phase:
            yield from _phase(training, phase, meter, after_step)


def _begin(training: Training, number: int, phase: Phase) -> None:
    """Set the training to the beginning of a phase."""
    if phase.start == "best" and training.best_of_phase is not None:
        training.model.load_state_dict(training.best_of_phase.state)
    if not phase.learns:
        forget(training.model, phase.calibrates)
    training.labelled = None
    if isinstance(phase.pseudo, PseudoLabels):
        training.labelled = label(training, number, phase, phase.pseudo)
    training.train = joined(training)
    training.best_of_phase = None
    training.phase, training.done, training.sums, training.spent = number, 0, None, 0.0


def _phase(training: Training, phase: Phase, meter: Meter, after_step: AfterStep) -> Iterator[Epoch]:
    history = training.of_phase(training.phase)
    measures = plain_mean(training.model, phase.calibrates) if not phase.learns else contextlib.nullcontext()
    with learning(training.model, phase.trains) as parameters, measures:
        make = phase.optimizer or training.recipe.optimizer
        training.optimizer = optimizer_of(make, training.model, parameters) if phase.learns else None
        restore_optimizer(training)
        while len(history) < phase.epochs:
            if history and phase.stop is not None and phase.stop.fires(history):
                bad = f"{phase.stop.monitor} has not improved for {phase.stop.patience} epochs"
                training.watch.say(f"stopped early after epoch {len(history)}: {bad}")
                break
            epoch, found = _epoch(training, phase, history, meter, after_step)
            history.append(epoch)
            training.history.append(epoch)
            _keep(training, epoch, found)
            training.done, training.sums, training.spent = 0, None, 0.0
            training.watch.epoch(epoch)
            yield epoch


def _epoch(
    training: Training, phase: Phase, history: list[Epoch], meter: Meter, after_step: AfterStep
) -> tuple[Epoch, Evaluation | None]:
    """The next epoch of a phase, and its validation."""
    epoch = _learn(training, phase, history, meter, after_step)
    found = {split: _measure(training, phase, split) for split in training.recipe.measure}
    figures: dict[str, Any] = {}
    for split, name in (("val", "val"), ("train", "train_eval"), ("test", "test")):
        evaluation = found.get(split)
        if evaluation is not None:
            figures |= {f"{name}_loss": evaluation.loss, f"{name}_accuracy": evaluation.accuracy}
    return replace(epoch, val_seconds=meter.lap(), **figures), found.get("val")


def _learn(
    training: Training, phase: Phase, history: list[Epoch], meter: Meter, after_step: AfterStep
) -> Epoch:
    """The next epoch of a phase, not yet validated; the device is waited for once, at its end."""
    recipe, device = training.recipe, training.engine.device
    at, images = len(history), len(training.train)
    indices = order(images, phase.views, training.seed, len(training.history))
    steps, size = phase.steps(images, recipe.batch_size)
    whole = phase.epochs * steps
    if training.sums is None:
        training.sums = torch.zeros(3, device=device)
        training.clock.clear()
    train_mode(training.model, phase.trains, phase.calibrates)
    meter.begin(training.phase, phase, at, steps, size, spent=training.spent)
    rate, sentry = 0.0, Sentry(training)
    undo = Undo(training, recipe.on_nan) if recipe.on_nan is not None and training.optimizer else None
    batches = [indices[i * size : (i + 1) * size] for i in range(training.done, steps)]
    with own_randomness(device), reading_ahead(training, phase, batches):
        for i, chosen in enumerate(batches, start=training.done):
            t = (at + i / steps) / phase.epochs
            resolution = phase.resolution_at(t)
            training.clock.begin(i, device)
            if training.optimizer is None:
                training.sums += calibration(training, phase, chosen, resolution)
            else:
                rate = value(phase.lr, t, epochs=phase.epochs, history=history, steps=whole)
                set_rates(training.optimizer, rate, t, epochs=phase.epochs, history=history, steps=whole)
                if undo is not None:
                    rate = undo.lower(rate)
                    undo.remember()
                figures = take(training, phase, training.optimizer, chosen, resolution)
                training.sums += figures if undo is None else undo.checked(figures, rate)
            training.clock.end()
            training.done, training.step = i + 1, training.step + 1
            sentry.step(training, rate)
            meter.step(i + 1, training.sums)
            training.spent = meter.spent
            after_step(training)
    return _learned(training, phase, history, meter)


def _learned(training: Training, phase: Phase, history: list[Epoch], meter: Meter) -> Epoch:
    """The epoch whose steps are all done; `history` are those of its phase before it."""
    assert training.sums is not None
    recipe, at, rate = training.recipe, len(history), 0.0
    steps, size = phase.steps(len(training.train), recipe.batch_size)
    # The last step's, also where a resumed epoch has no step left.
    last = (at + (steps - 1) / steps) / phase.epochs
    if training.optimizer is not None:
        whole = phase.epochs * steps
        rate = value(phase.lr, last, epochs=phase.epochs, history=history, steps=whole) * training.lowered
    undone = sum(step >= training.step - steps for step in training.undone)
    counted = steps - undone or math.nan
    train_loss, train_accuracy, share = (total / counted for total in training.sums.tolist())
    if undone < steps:
        check_loss(train_loss, training, rate)
    labelled = training.labelled
    return Epoch(
        number=len(training.earlier) + len(training.history) + 1,
        phase=training.phase,
        name=phase.name,
        epoch=at + 1,
        epochs=phase.epochs,
        steps=steps,
        images=steps * size,
        lr=rate,
        resolution=phase.resolution_at(last),
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        train_seconds=meter.lap(),
        data_seconds=training.clock.of(steps, GATHER, VIEWS),
        step_seconds=training.clock.of(steps, FORWARD, BACKWARD, OPTIMIZER, AVERAGE),
        pseudo_images=len(labelled) if labelled is not None else 0,
        pseudo_share=share if share >= 0 else math.nan,
        session=training.session,
        undone=undone,
    )


def _measure(training: Training, phase: Phase, name: str) -> Evaluation | None:
    """The figures of the averaged weights, or of the model's own, on a split; None where there is none."""
    split = training.interleaved.get(name) or training.data.splits.get(name)
    if split is None:
        return None
    return evaluate(
        training.measured,
        split,
        training.data.classes,
        phase.test,
        engine=training.engine,
        resolution=phase.last_resolution,
        batch_size=phase.batch_size or training.recipe.batch_size,
        seed=mixed(training.seed, len(training.history)),
        portions=training.portions,
    )


def _keep(training: Training, epoch: Epoch, validation: Evaluation | None) -> None:
    """Remember this epoch's weights as the last, and as the best where they are."""
    average = training.average
    # With an average, "last" means the model's own weights; what was validated are the averaged ones.
    own = average is None or training.recipe.keep == "last"
    source = training.model if own or average is None else average.model
    state = {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
    check_finite(state, training)
    measured = validation if average is None or not own else None
    kept = Kept(state, epoch, measured)
    wanted = roles(training)
    for name in ("last", "best", "best_of_phase"):
        found = getattr(training, name)
        if name not in wanted:
            # Whatever nobody will ask for would be one more copy of the model.
            setattr(training, name, None)
        elif name == "last" or found is None or kept.rank > found.rank:
            setattr(training, name, kept)
