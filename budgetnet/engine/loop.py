"""The loop: one visible generator of steps and epochs; everything else in this room serves it."""

import math
import time
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.data import Interleaved, Split, reading
from budgetnet.engine.evaluation import Evaluation, Scoring
from budgetnet.engine.finite import FiniteCheck, Undo, check_finite, check_loss
from budgetnet.engine.measure import answers, evaluate
from budgetnet.engine.parts import Average, forget, learning, plain_mean, train_mode
from budgetnet.engine.speed import AVERAGE, BACKWARD, FORWARD, GATHER, OPTIMIZER, TEACHER, VIEWS
from budgetnet.engine.state import Kept
from budgetnet.engine.step import calibration, joined, reading_ahead, take
from budgetnet.engine.training import Training
from budgetnet.engine.unsaved import restore_optimizer
from budgetnet.pseudo import Kept as Labelled
from budgetnet.pseudo import keep
from budgetnet.randomness import TEST, drawn, mixed, order, own_randomness, reseed
from budgetnet.recipe import Phase, PseudoLabels, Test, optimizer_of, set_rates
from budgetnet.run import Epoch, Note
from budgetnet.schedule import value

LABELLED_AT_ONCE = 256
"""Unlabelled images that the model labels at once."""


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """A step that has just been taken, the `number`-th of the run, with a batch of `images` images.

    `done` of the epoch's `steps` are behind, and took `seconds`. The epoch is the `epoch`-th of the `epochs`
    of phase `phase`, all counted from 1. To read the loss or the accuracy waits for the device: on a GPU, ask
    for them now and then (`every`).
    """

    number: int
    phase: int
    name: str
    epoch: int
    epochs: int
    done: int
    steps: int
    images: int
    lr: float
    resolution: int
    seconds: float
    figures: Tensor = field(repr=False)
    sums: Tensor = field(repr=False)

    @property
    def loss(self) -> float:
        """The mean loss of the step's batch, in training mode; 0 where the step was taken back."""
        return float(self.figures[0])

    @property
    def accuracy(self) -> float:
        """The accuracy of the step's batch, in [0, 1], in training mode."""
        return float(self.figures[1])


Event = TrainingStep | Epoch


def steps(training: Training) -> Generator[Event]:
    """Train through all phases from wherever `training` is, and give each step and each epoch as it ends.

    Between two of them everything that makes the rest is in `training`.
    """
    recipe = training.recipe
    if recipe.average is not None and training.state.average is None:
        training.state.average = Average(training.model, recipe.average)
    for number, phase in enumerate(recipe.phases, start=1):
        if number > training.state.phase:
            _begin(training, number, phase)
        if number == training.state.phase:
            yield from _phase(training, phase)


class _Laps:
    """Times an epoch of which `spent` seconds were spent before, by a run that was interrupted."""

    def __init__(self, spent: float) -> None:
        self._mark = time.perf_counter() - spent

    @property
    def spent(self) -> float:
        """Seconds since the epoch's beginning."""
        return time.perf_counter() - self._mark

    def lap(self) -> float:
        """Seconds since the last lap, or the epoch's beginning."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        return seconds


def _begin(training: Training, number: int, phase: Phase) -> None:
    """Set the training to the beginning of a phase."""
    state, how = training.state, phase.pseudo
    best = state.kept.get("best_of_phase")
    if phase.start == "best" and best is not None:
        for model in training.models:
            model.load_state_dict(best.state)
    if not phase.learns:
        for model in training.models:
            forget(model, phase.calibrates)
    state.labelled = None
    if isinstance(how, PseudoLabels):
        state.labelled = _label(training, phase, how)
    state.train, state.phase = joined(training), number
    state.kept.pop("best_of_phase", None)
    state.next_epoch()
    if isinstance(how, PseudoLabels):
        training.tell(_joining(training, how))


def _phase(training: Training, phase: Phase) -> Iterator[Event]:
    state = training.state
    history = training.of_phase(state.phase)
    measures = plain_mean(training.models, phase.calibrates) if not phase.learns else nullcontext()
    with learning(training.model, phase.trains) as parameters, measures:
        make = phase.optimizer or training.recipe.optimizer
        state.optimizer = optimizer_of(make, training.model, parameters) if phase.learns else None
        restore_optimizer(training)
        while len(history) < phase.epochs:
            if history and phase.stop is not None and phase.stop.fires(history):
                bad = f"{phase.stop.monitor} has not improved for {phase.stop.patience} epochs"
                training.tell(Note("early", f"stopped early after epoch {len(history)}: {bad}"))
                break
            laps = _Laps(state.spent)
            yield from _learn(training, phase, history, laps)
            epoch, validation = _validated(training, phase, _learned(training, phase, history, laps), laps)
            history.append(epoch)
            state.history.append(epoch)
            _keep(training, epoch, validation)
            state.next_epoch()
            yield epoch


def _learn(training: Training, phase: Phase, history: list[Epoch], laps: _Laps) -> Iterator[TrainingStep]:
    """The steps of the next epoch of a phase; the device is waited for once, after their end."""
    recipe, state, device = training.recipe, training.state, training.engine.device
    at, images = len(history), len(state.train)
    labels = state.train.labels.cpu() if recipe.order == "balanced" else None
    indices = order(images, phase.views, training.seed, len(state.history), labels=labels)
    count, size = phase.steps(images, recipe.batch_size)
    if state.sums is None:
        state.sums = torch.zeros(3, device=device)
        state.clock.clear()
    train_mode(training.model, phase.trains, phase.calibrates)
    rate, finite_check = 0.0, FiniteCheck(training)
    undo = Undo(training, recipe.on_nan) if recipe.on_nan is not None and state.optimizer else None
    batches = [indices[i * size : (i + 1) * size] for i in range(state.done, count)]
    where: dict[str, Any] = {"epochs": phase.epochs, "history": history, "steps": phase.epochs * count}
    with own_randomness(device), reading_ahead(training, phase, batches) as sources:
        for i, chosen in enumerate(batches, start=state.done):
            t = (at + i / count) / phase.epochs
            resolution = phase.resolution_at(t)
            state.clock.begin(i, device)
            if state.optimizer is None:
                figures = calibration(training, phase, sources, chosen, resolution)
            else:
                rate = value(phase.lr, t, **where)
                set_rates(state.optimizer, rate, t, **where)
                if undo is not None:
                    rate = undo.lower(rate)
                    undo.remember()
                figures = take(training, phase, sources, chosen, resolution)
                figures = figures if undo is None else undo.checked(figures, rate)
            state.sums += figures
            state.clock.end()
            state.done, state.step = i + 1, state.step + 1
            finite_check.step(training, rate)
            state.spent = laps.spent
            yield TrainingStep(
                number=state.step,
                phase=state.phase,
                name=phase.name,
                epoch=at + 1,
                epochs=phase.epochs,
                done=state.done,
                steps=count,
                images=size,
                lr=rate,
                resolution=resolution,
                seconds=state.spent,
                figures=figures,
                sums=state.sums,
            )


def _learned(training: Training, phase: Phase, history: list[Epoch], laps: _Laps) -> Epoch:
    """The epoch whose steps are all done; `history` are those of its phase before it."""
    state, at, rate = training.state, len(history), 0.0
    assert state.sums is not None
    count, size = phase.steps(len(state.train), training.recipe.batch_size)
    # The last step's, also where a resumed epoch has no step left.
    last = (at + (count - 1) / count) / phase.epochs
    if state.optimizer is not None:
        whole = phase.epochs * count
        rate = value(phase.lr, last, epochs=phase.epochs, history=history, steps=whole) * training.lowered
    undone = sum(step >= state.step - count for step in state.undone)
    counted = count - undone or math.nan
    train_loss, train_accuracy, share = (total / counted for total in state.sums.tolist())
    if undone < count:
        check_loss(train_loss, training, rate)
    return Epoch(
        number=len(training.earlier) + len(state.history) + 1,
        phase=state.phase,
        name=phase.name,
        epoch=at + 1,
        epochs=phase.epochs,
        steps=count,
        images=count * size,
        lr=rate,
        resolution=phase.resolution_at(last),
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        train_seconds=laps.lap(),
        data_seconds=state.clock.of(count, GATHER, VIEWS),
        step_seconds=state.clock.of(count, TEACHER, FORWARD, BACKWARD, OPTIMIZER, AVERAGE),
        pseudo_images=len(state.labelled) if state.labelled is not None else 0,
        pseudo_share=share if share >= 0 else math.nan,
        session=training.session,
        undone=undone,
    )


def _validated(
    training: Training, phase: Phase, epoch: Epoch, laps: _Laps
) -> tuple[Epoch, Evaluation | None]:
    """The epoch with the figures of what the recipe measures, and its validation."""
    measured: dict[str, Evaluation] = {}
    figures: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    for name in training.recipe.measure:
        split = training.execution.interleaved.get(name) or training.data.splits.get(name)
        if split is not None:
            epochs = len(training.state.history)
            evaluation = measure(training, training.measured, split, phase, phase.test, epochs)
            measured[name] = evaluation
            title = "train_eval" if name == "train" else name
            figures |= {f"{title}_loss": evaluation.loss, f"{title}_accuracy": evaluation.accuracy}
            metrics |= {f"{title}_{metric}": figure for metric, figure in evaluation.metrics.items()}
    return replace(epoch, val_seconds=laps.lap(), metrics=metrics, **figures), measured.get("val")


def measure(
    training: Training, model: nn.Module, split: Split | Interleaved, phase: Phase, test: Test, epochs: int
) -> Evaluation:
    """The figures of a model of the training after a phase, with the draws that follow so many epochs."""
    return evaluate(
        model,
        split,
        Scoring(training.data.classes, training.recipe.metrics),
        test,
        engine=training.engine,
        resolution=phase.last_resolution,
        batch_size=phase.batch_size or training.recipe.batch_size,
        seed=mixed(training.seed, epochs),
        chunks=training.execution.chunks,
    )


def _keep(training: Training, epoch: Epoch, validation: Evaluation | None) -> None:
    """Remember this epoch's weights as the last, and as the best where they are."""
    average = training.state.average
    # With an average, "last" means the model's own weights; what was validated are the averaged ones.
    own = average is None or training.recipe.keep == "last"
    source = training.model if own or average is None else average.model
    weights = {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
    check_finite(weights, training)
    kept = Kept(weights, epoch, validation if average is None or not own else None)
    before, by = training.state.kept, training.recipe.best_by
    # Whatever nobody will ask for would be one more copy of the model.
    training.state.kept = {
        role: kept
        if role == "last" or role not in before or kept.rank(by) > before[role].rank(by)
        else before[role]
        for role in training.roles
    }


def _label(training: Training, phase: Phase, how: PseudoLabels) -> Labelled:
    """Label the unlabelled images with the weights at hand, tested as the phase is."""
    pool = training.data.unlabelled
    assert pool is not None
    resize, crop = phase.test.at(phase.last_resolution)
    batches = torch.split(torch.arange(len(pool)), LABELLED_AT_ONCE)
    device, chunks, team = training.engine.device, training.execution.chunks, training.team
    with own_randomness(device), reading(pool, batches[team.rank :: team.size]) as source:
        reseed(device, drawn(training.seed, TEST, training.state.step))
        labels, probabilities = answers(
            training.measured,
            (source[chosen][0] for _, chosen in chunks.turns(batches)),
            engine=training.engine,
            resize=resize,
            crop=crop,
            test=phase.test,
            chunks=chunks,
        )
    if not team.alone:
        rows = torch.cat([torch.empty(0, dtype=torch.int64), *batches[team.rank :: team.size]])
        labels = team.gathered(labels, rows, len(pool))
        own = probabilities.reshape(len(rows), len(training.data.classes))
        probabilities = team.gathered(own, rows, len(pool))
    return keep(probabilities, how.threshold, how.temperature, how.per_class, labels=labels)


def _joining(training: Training, how: PseudoLabels) -> Note:
    """What joins the phase at hand, in words."""
    kept, pool = training.state.labelled, training.data.unlabelled
    assert kept is not None
    assert pool is not None
    of_all = f"{len(kept):,} of {len(pool):,} unlabelled images"
    sure = f"the model is sure of above {how.threshold:g} (temperature {how.temperature:g})"
    return Note("labels", f"{of_all} join phase {training.state.phase} with the labels that {sure}")
