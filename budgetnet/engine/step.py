"""One step: stored images, read ahead, become views, a loss, and an update of the weights."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.augment import Act, Place, Teaching, acts_alone, at_place, view
from budgetnet.data import Ahead, Interleaved, Split, reading
from budgetnet.engine.batch import Batch, Stored, Windows, figures_of, loss_of
from budgetnet.engine.memory import clear, once_more, out_of_memory, release, update
from budgetnet.engine.parts import count_batch, train_mode
from budgetnet.engine.pieces import gradient_in_parts
from budgetnet.engine.shares import gradient_of_share, logits_of_share
from budgetnet.engine.speed import AVERAGE, BACKWARD, FORWARD, GATHER, OPTIMIZER, TEACHER, VIEWS, Clock
from budgetnet.engine.training import Training
from budgetnet.pseudo import join
from budgetnet.randomness import MODEL, PLACE, UNLABELLED, VIEW, drawn, mixed, reseed
from budgetnet.recipe import FixMatch, Phase
from budgetnet.run import Note


@dataclass(frozen=True, repr=False)
class _Timed:
    """A step that asks teachers, whose time is a part of its own."""

    step: Any
    clock: Clock

    @property
    def acts_alone(self) -> bool:
        return acts_alone(self.step)

    def act(
        self, images: Tensor, labels: Tensor, *, classes: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """What the step makes of them."""
        self.clock.mark(TEACHER)
        found: tuple[Tensor, Tensor] = self.step.act(images, labels, classes=classes, generator=generator)
        self.clock.mark(VIEWS)
        return found

    def __repr__(self) -> str:
        return repr(self.step)


@dataclass(frozen=True)
class Sources:
    """Where the steps of an epoch read their images: each gives those at some positions, with labels."""

    train: Split | Ahead | Interleaved
    unlabelled: Split | Ahead | Interleaved | None = None


def take(training: Training, phase: Phase, sources: Sources, chosen: Tensor, resolution: int) -> Tensor:
    """One step on the training images at `chosen`: loss, accuracy and share of pseudo-labels, (3,).

    Where the memory does not suffice for the batch, it goes through the model in halves, quarters and so on
    from then on: the gradient is that of the whole batch, and batch norms see the parts.
    """
    optimizer = training.state.optimizer
    assert optimizer is not None
    stored = _stored(training, phase, sources, chosen)
    batch = once_more(lambda: batch_of(training, phase, stored, resolution))
    least = min(training.team.shares(len(chosen)))
    while True:
        try:
            figures = _gradient(training, phase, batch, len(chosen))
            break
        except Exception as error:
            short = out_of_memory(error)
            whole = training.state.parts >= least or not training.execution.alone
            if whole if short else training.execution.compiled is None:
                raise
            reason = str(error)
        # Outside of the handler, which holds on to the tensors of the attempt.
        optimizer.zero_grad(set_to_none=True)
        if short:
            _smaller_parts(training, len(chosen))
        else:
            _eager(training, reason)
    training.state.clock.mark(OPTIMIZER)
    move(optimizer, training.recipe.clip)
    if training.state.average is not None:
        training.state.clock.mark(AVERAGE)
        training.state.average.update(training.model)
    return figures


def move(optimizer: torch.optim.Optimizer, clip: float | None) -> None:
    """One step of the optimizer along the gradients, which are bounded by `clip`, and then dropped."""
    if clip is not None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clip)
    update(optimizer)
    clear(optimizer)


def _gradient(training: Training, phase: Phase, batch: Batch, count: int) -> Tensor:
    """Leave the gradient of the batch of `count` images in the parameters; gives its figures, (3,)."""
    seed = drawn(training.seed, MODEL, training.state.step)
    if not training.team.alone:
        return gradient_of_share(training, phase, batch, count, seed)
    if training.state.parts > 1:
        return gradient_in_parts(training, phase, batch, seed)
    reseed(training.engine.device, seed)
    training.state.clock.mark(FORWARD)
    loss, logits, share = _loss(training, phase, batch)
    training.state.clock.mark(BACKWARD)
    loss.backward()  # type: ignore[no-untyped-call]
    return figures_of(loss, logits, batch.labels, share)


def _loss(training: Training, phase: Phase, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of a batch, its logits (B, K), and the share of the unlabelled images that counted."""
    logits = training.engine.forward(training.network, batch.shown).float()
    return loss_of(training, phase, batch, logits)


def _smaller_parts(training: Training, images: int) -> None:
    release()
    training.state.parts *= 2
    text = (
        f"the memory does not suffice for {images} images at once: from here on each batch goes "
        f"through the model in {training.state.parts} parts, with the gradient of the whole"
    )
    training.tell(Note("memory", text))


def _eager(training: Training, reason: str) -> None:
    """Go on without compiling; an error that is the model's own comes again from there."""
    training.execution.compiled = None
    training.tell(Note("speed", f"the model could not be compiled and runs eagerly ({_first(reason)})"))


def _first(reason: str) -> str:
    """The beginning of a compiler's words."""
    return reason.strip().splitlines()[0][:200] if reason.strip() else "no reason given"


def calibration(
    training: Training, phase: Phase, sources: Sources, chosen: Tensor, resolution: int
) -> Tensor:
    """One batch through the model, which moves the statistics that the phase calibrates: (3,) as above."""
    images, labels = _views(training, phase, _stored(training, phase, sources, chosen), resolution)
    training.state.clock.mark(FORWARD)
    steps, _ = phase.steps(len(training.state.train), training.recipe.batch_size)
    before = len(training.of_phase(training.state.phase)) * steps + training.state.done
    average = training.state.average
    if average is not None:
        train_mode(average.model, phase.trains, phase.calibrates)
    with torch.no_grad():
        # The statistics of averaged weights are others than the average of the model's.
        for model in training.models:
            count_batch(model, phase.calibrates, before + 1)
            if training.team.alone:
                logits, given = training.engine.forward(model, images).float(), labels
            else:
                logits, given = logits_of_share(training, model, Batch(images, labels), len(chosen))
        loss = training.recipe.loss(logits, given)
    if average is not None:
        average.model.eval()
    return figures_of(loss, logits, given, loss.new_full((), -1.0))


def _stored(training: Training, phase: Phase, sources: Sources, chosen: Tensor) -> Stored:
    """What a step reads: the images at `chosen`; for FixMatch some of all unlabelled ones too."""
    training.state.clock.mark(GATHER)
    windows = Windows.of(training.team, phase, len(chosen))
    images, labels = sources.train[chosen if windows is None else chosen[windows.labelled.rows()]]
    how, pool = phase.pseudo, sources.unlabelled
    if not isinstance(how, FixMatch) or pool is None:
        return Stored(chosen, images, labels, windows=windows)
    rows = _read(training, how, chosen, training.state.step, windows)
    return Stored(chosen, images, labels, pool[rows][0], windows)


def _read(training: Training, how: FixMatch, chosen: Tensor, step: int, windows: Windows | None) -> Tensor:
    """The positions of the unlabelled images that a step reads, in this process."""
    rows, _ = unlabelled(training, how, len(chosen), step)
    window = windows.unlabelled if windows is not None else None
    return rows if window is None else rows[window.rows()]


def _views(training: Training, phase: Phase, stored: Stored, resolution: int) -> tuple[Tensor, Tensor]:
    """The views of stored images; they, and the model's dropout, depend on the step alone."""
    training.state.clock.mark(VIEWS)
    reseed(training.engine.device, drawn(training.seed, MODEL, training.state.step))
    classes = len(training.data.classes)
    steps = phase.augment
    if steps:
        steps = at_place(steps, _place(training, phase, stored.chosen))
        clock = training.state.clock
        steps = tuple(
            _Timed(step, clock) if isinstance(step, Teaching) and isinstance(step, Act) else step
            for step in steps
        )
    seed = drawn(training.seed, VIEW, training.state.step)
    images, labels = stored.images, stored.labels
    if stored.windows is not None:
        window, generator = stored.windows.labelled, torch.Generator().manual_seed(seed)
        sizes = {"resolution": resolution, "classes": classes}
        images, labels = view(images, labels, steps, **sizes, generator=generator, window=window)
        return images[window.own], labels[window.own]

    def made(make: Callable[..., tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return make(images, labels, steps, resolution=resolution, classes=classes, generator=generator)

    if training.execution.fused is not None:
        try:
            return made(training.execution.fused)
        except Exception as error:
            if out_of_memory(error):
                raise
            reason = str(error)
        training.execution.fused = None
        text = f"the views could not be compiled and are made eagerly ({_first(reason)})"
        training.tell(Note("speed", text))
    return made(view)


def _place(training: Training, phase: Phase, chosen: Tensor) -> Place:
    """Which images of which pass a step is about to show: a function of where the training is."""
    seen = training.state.done * len(chosen) + torch.arange(len(chosen))
    before = len(training.state.history) * math.ceil(phase.views)
    return Place(chosen, before + seen // len(training.state.train), mixed(training.seed, PLACE))


def batch_of(training: Training, phase: Phase, stored: Stored, resolution: int) -> Batch:
    """All views of a step: of its images, and weak and strong ones of FixMatch's unlabelled images."""
    images, labels = _views(training, phase, stored, resolution)
    how, pool = phase.pseudo, stored.unlabelled
    if not isinstance(how, FixMatch) or pool is None:
        return Batch(images, labels)
    _, generator = unlabelled(training, how, len(stored.chosen), training.state.step)
    window = stored.windows.unlabelled if stored.windows is not None else None
    own = slice(None) if window is None else window.own
    classes, none = len(training.data.classes), labels.new_zeros(len(pool), dtype=torch.int64)
    given: dict[str, Any] = {
        "resolution": resolution,
        "classes": classes,
        "generator": generator,
        "window": window,
    }
    weak, strong = (view(pool, none, steps, **given)[0][own] for steps in (how.weak, how.strong))
    return Batch(images, labels, weak, strong)


@contextmanager
def reading_ahead(training: Training, phase: Phase, batches: list[Tensor]) -> Iterator[Sources]:
    """Where the coming steps, whose positions are `batches`, read: ahead where it is not on the device."""
    state, how, pool = training.state, phase.pseudo, training.data.unlabelled
    with ExitStack() as stack:
        windows = Windows.of(training.team, phase, len(batches[0])) if batches else None
        own = batches if windows is None else [chosen[windows.labelled.rows()] for chosen in batches]
        train = stack.enter_context(reading(state.train, own))
        if not isinstance(train, Ahead):
            train = training.execution.interleaved.get("train") or train
        if not isinstance(how, FixMatch) or pool is None:
            yield Sources(train)
            return
        steps = enumerate(batches, start=state.step)
        rows = (_read(training, how, chosen, step, windows) for step, chosen in steps)
        yield Sources(train, stack.enter_context(reading(pool, rows)))


def unlabelled(training: Training, how: FixMatch, images: int, step: int) -> tuple[Tensor, torch.Generator]:
    """Positions of the unlabelled images of a step, and the generator that its views go on with."""
    assert training.data.unlabelled is not None
    generator = torch.Generator().manual_seed(drawn(training.seed, UNLABELLED, step))
    count = len(training.data.unlabelled)
    return torch.randint(count, (how.ratio * images,), generator=generator), generator


def joined(training: Training) -> Split:
    """The training images of the phase at hand: the data's own, and those labelled before it."""
    train, pool, labelled = training.data.train, training.data.unlabelled, training.state.labelled
    if labelled is None or pool is None or not len(labelled):
        return train
    return join(train, pool, labelled)
