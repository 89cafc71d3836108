"""Trial: one step of every phase on copies, so that what only a step meets is found before the first one."""

import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.budget import first_line, held, twin
from budgetnet.data import Data
from budgetnet.engine.batch import Batch, Stored, loss_of
from budgetnet.engine.measure import Engine
from budgetnet.engine.memory import out_of_memory, release
from budgetnet.engine.parts import learning, train_mode
from budgetnet.engine.ready import doubts
from budgetnet.engine.step import batch_of, move
from budgetnet.engine.training import Training
from budgetnet.engine.unsaved import remember, unsaved_change
from budgetnet.layers import Standardise, uncalled
from budgetnet.loss import of_counts
from budgetnet.randomness import MODEL, drawn, drawn_from, own_randomness
from budgetnet.recipe import FixMatch, Phase, Recipe, optimizer_of, set_rates

NEARLY_NONE = 1e-20
"""A learning rate that moves no weight, and that an optimizer may divide by."""
FEW = 2
"""Images of a trial: as few as a batch norm takes."""


def trial(model: nn.Module, data: Data, recipe: Recipe, engine: Engine) -> list[str]:
    """Take one step of every phase, with two images, on a copy of the model; gives what is worth noting.

    Nothing is left of it: neither in the model, nor in the loss, nor in random generators. What fails with
    two images is tried with a whole batch before it is refused. Raises ValueError naming the phase and what
    fails: views, model, loss, gradient or optimizer.
    """
    try:
        with own_randomness(engine.device), _eagerly():
            training = copied(model, data, recipe, engine)
            if training is None:
                return []
            remember(training)
            own = {id(each) for either in (model, training.model) for each in either.parameters()}
            return list(dict.fromkeys(_all_phases(training, own)))
    except Exception as error:
        if not out_of_memory(error):
            raise
    # A training goes on in smaller parts where memory runs out, and a trial has nothing to add.
    release()
    return []


def _eagerly() -> AbstractContextManager[object]:
    """Within it nothing is compiled for a trial's few images: it would take longer than all the rest."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return]


def copied(model: nn.Module, data: Data, recipe: Recipe, engine: Engine) -> Training | None:
    """A training of copies, whose layers that are fitted to the images are made to work.

    Steps and loss are copied with the model, which they may refer to. None where a hook, say, that only the
    training needs cannot be copied.
    """
    memo: dict[int, Any] = {}
    try:
        copied = twin(model, memo=memo)
    except ValueError:
        return None
    channels = int(data.train.images.shape[1])
    for module in copied.modules():
        if isinstance(module, Standardise) and not module.fitted:
            module.fit([0.5] * channels, [0.25] * channels)
    copied.to(device=engine.device, memory_format=engine.memory_format)  # type: ignore[call-overload]
    phases = [replace(p, augment=[_step_twin(step, memo) for step in p.augment]) for p in recipe.phases]
    loss = of_counts(recipe.loss, data.train.counts(len(data.classes)))
    with suppress(ValueError):
        loss = twin(loss, engine.device, memo=memo)
    tried = replace(recipe, phases=phases, loss=loss)
    return Training.fresh(copied, data, tried, engine)


def _step_twin(step: Any, memo: dict[int, Any]) -> Any:
    """A copy of a step that is not ours, which may count its calls; what it holds of tensors stays shared."""
    if type(step).__module__.startswith("budgetnet."):
        return step
    for part in held(step, "step"):
        memo.setdefault(id(part.what), part.what)
    try:
        return twin(step, memo=memo)
    except ValueError:
        return step


@dataclass(frozen=True)
class _Try:
    """The step of one phase at one resolution; `own` are the identities of what may get a gradient."""

    training: Training
    number: int
    phase: Phase
    resolution: int
    own: set[int]

    @property
    def kind(self) -> object:
        """What is the same of steps that do not differ."""
        phase = self.phase
        own = (*map(id, phase.augment), id(phase.optimizer), id(phase.pseudo))
        return self.resolution, phase.trains, phase.calibrates, phase.batch_size, own

    @contextmanager
    def naming(self, failing: str) -> Iterator[None]:
        """Say of which phase, and of what, an error within it is."""
        try:
            yield
        except Exception as error:
            if out_of_memory(error):
                raise
            called = f"phase {self.number}" + (f" ({self.phase.name})" if self.phase.name else "")
            if isinstance(error, _Said):
                raise ValueError(f"{called}: {error}") from None
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise ValueError(f"{called}: {failing} ({_line(error)}{kind}{first_line(error)})") from error


def _line(error: Exception) -> str:
    """The line of the user's own code that an error came from, "" where it came from none."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = (str(Path(__file__).parents[1]), sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"))
    own = [
        frame
        for frame in frames
        if Path(frame.filename).is_file() and not frame.filename.startswith(libraries)
    ]
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}: " if own else ""


class _Said(ValueError):
    """What is wrong is said already."""


def _all_phases(training: Training, own: set[int]) -> Iterator[str]:
    tried: set[object] = set()
    for number, phase in enumerate(training.recipe.phases, start=1):
        for resolution in dict.fromkeys([phase.resolution_at(0.0), phase.last_resolution]):
            asked = _Try(training, number, phase, resolution, own)
            if asked.kind in tried:
                continue
            training.state.phase = number
            yield from _surely(asked, doubting=not tried)
            tried.add(asked.kind)


def _surely(asked: _Try, *, doubting: bool) -> list[str]:
    """A step with few images; where it fails, one with a whole batch decides."""
    training = asked.training
    size = asked.phase.steps(len(training.state.train), training.recipe.batch_size)[1]
    try:
        return _step(asked, min(FEW, size), doubting=doubting)
    except ValueError as error:
        if size <= FEW:
            raise
        refusal = error
    try:
        return _step(asked, size, doubting=doubting)
    except Exception as error:
        if out_of_memory(error):
            raise refusal from None
        raise


def _step(asked: _Try, count: int, *, doubting: bool) -> list[str]:
    """Views, logits, loss, gradient and update with `count` images; raises ValueError saying what fails."""
    training, phase = asked.training, asked.phase
    with learning(training.model, phase.trains) as parameters:
        train_mode(training.model, phase.trains, phase.calibrates)
        with asked.naming("the views cannot be made"):
            batch = batch_of(training, phase, _stored(asked, count), asked.resolution)
        elsewhere = drawn_from(drawn(training.seed, MODEL, training.state.step))
        shape = "x".join(map(str, batch.shown.shape[1:]))
        failing = f"the model fails in training mode on {len(batch.shown)} views of {shape}"
        with asked.naming(failing), uncalled(training.model) as past_layers:
            logits = _logits(training, batch)
        loss = _loss(asked, batch, logits)
        if phase.learns:
            _learn(asked, parameters, loss, past_layers)
        if doubting:
            with asked.naming("the model fails in evaluation mode"):
                if lost := unsaved_change(training, batch.images):
                    raise _Said(lost)
        return [*_elsewhere(asked, elsewhere), *(doubts(training, batch, logits) if doubting else ())]


def _elsewhere(asked: _Try, drew: list[str]) -> list[str]:
    """What is to know of steps that draw elsewhere than from torch."""
    if not drew:
        return []
    return [
        f"a step of phase {asked.number} draws from {' and '.join(drew)}, which is seeded at every step, so "
        "that the run repeats itself; a number drawn there serves all images of a batch alike, where steps "
        "that draw tensors with torch can give each its own"
    ]


def _stored(asked: _Try, count: int) -> Stored:
    """Images from all over the training split, whose classes may lie one after another."""
    training, how = asked.training, asked.phase.pseudo
    device = training.engine.device
    chosen = torch.linspace(0, len(training.state.train) - 1, count, dtype=torch.float64).round().long()
    images, labels = (each.to(device) for each in training.state.train[chosen])
    pool = training.data.unlabelled
    if not isinstance(how, FixMatch) or pool is None:
        return Stored(chosen, images, labels)
    rows = torch.arange(count * how.ratio) % len(pool)
    return Stored(chosen, images, labels, pool[rows][0].to(device))


def _logits(training: Training, batch: Batch) -> Tensor:
    """What the model gives for all views of a batch, (N, K), as it gives it."""
    answer: object = training.engine.forward(training.model, batch.shown)
    expected = (len(batch.shown), len(training.data.classes))
    if isinstance(answer, Tensor) and answer.is_floating_point() and tuple(answer.shape) == expected:
        return answer
    kind, names = f"a {type(answer).__name__}", ""
    if isinstance(answer, Tensor):
        kind = f"{str(answer.dtype).removeprefix('torch.')} {tuple(answer.shape)}"
    elif isinstance(answer, dict):
        names = ", ".join(map(str, answer))
        kind += f" of {names}"
    elif isinstance(answer, tuple | list):
        names = ", ".join(getattr(answer, "_fields", ()))
        kind += f" of {names or len(answer)}"
    way_out = "build it with aux_logits=False, or " if "aux" in names else ""
    raise _Said(
        f"the model should give one tensor of logits {expected} in training mode too, not {kind}; "
        f"{way_out}let its forward return the logits alone"
    )


def _loss(asked: _Try, batch: Batch, logits: Tensor) -> Tensor:
    """The loss of a batch, after a look at what the user's own gives of the labelled views."""
    loss, phase = asked.training.recipe.loss, asked.phase
    words = getattr(loss, "__name__", type(loss).__name__)
    labels = (
        f"{'whole-number' if batch.labels.ndim == 1 else 'probability'} labels {tuple(batch.labels.shape)}"
    )
    failing = f"the loss {words} fails on logits {tuple(logits.shape)} and the {labels} that the views give"
    if batch.labels.ndim == 2:
        failing += ", as Mixup and Cutmix do, and which it should take"
    with asked.naming(failing):
        answer: object = loss(logits[: len(batch.images)].float(), batch.labels)
        if not isinstance(answer, Tensor) or answer.ndim or not answer.is_floating_point():
            kind = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise _Said(f"the loss {words} should give one number, a tensor (), not {kind}; let it average")
        if phase.learns and not answer.requires_grad:
            raise _Said(
                f"the loss {words} should depend on weights that learn, and none takes part in it; leave out "
                "detach() and no_grad(), or let other parts learn"
            )
        return answer if batch.weak is None else loss_of(asked.training, phase, batch, logits.float())[0]


def _learn(
    asked: _Try, parameters: list[nn.Parameter], loss: Tensor, past_layers: Mapping[str, nn.Module]
) -> None:
    """Gradient and update, at a rate of 0: the phases after this one are tried with sound weights.

    `past_layers` are those of few bits that were not called: no weight of theirs may have a gradient.
    """
    recipe, model, phase = asked.training.recipe, asked.training.model, asked.phase
    with asked.naming("its gradient cannot be computed"):
        strange = [leaf for leaf in _leaves(loss) if id(leaf) not in asked.own]
        if strange:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in strange[:3])
            raise _Said(
                f"what learns should be a parameter of the model, and a tensor {shapes} that is none gets a "
                "gradient, and would be neither counted, trained nor saved: make it an nn.Parameter of the "
                "model, or detach it"
            )
        # Of nothing else: a loss may look at the weights of the model that was copied.
        learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
        loss.backward(inputs=learns)  # type: ignore[no-untyped-call]
        for name, layer in past_layers.items():
            if layer.get_parameter("weight").grad is not None:
                raise _Said(
                    f"Quantised rounds the weights of layers that are called, and that of {name} is used "
                    f"without calling it: keep it as it is, by Quantised(..., keep=[{name!r}]), or call it"
                )
    with asked.naming("its optimizer cannot take a step"):
        optimizer = optimizer_of(phase.optimizer or recipe.optimizer, model, parameters)
        set_rates(optimizer, 0.0, 0.0, epochs=phase.epochs, history=())
        for group in optimizer.param_groups:
            group["lr"] = NEARLY_NONE
        move(optimizer, recipe.clip)
    model.zero_grad(set_to_none=True)


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    """The tensors that a gradient of the loss would reach."""
    waiting: list[Any] = [loss.grad_fn]
    seen: set[object] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            yield leaf
