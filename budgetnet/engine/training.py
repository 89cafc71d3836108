"""Training: what one training is of, how it comes to its device, and how it is computed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from budgetnet.augment import FusedViews, test_view
from budgetnet.budget import held, twin
from budgetnet.data import MEMORY_SHARE, Data, Interleaved, Split, at_hand, free_memory
from budgetnet.engine.hidden import Hidden
from budgetnet.engine.measure import Engine, trying
from budgetnet.engine.memory import Chunks
from budgetnet.engine.speed import Clock, Compiled, SpeedChoice, fused_views
from budgetnet.engine.state import Kept, State
from budgetnet.engine.team import ALONE, Team
from budgetnet.layers import Standardise
from budgetnet.loss import Loss
from budgetnet.randomness import SESSION, mixed
from budgetnet.recipe import Phase, PseudoLabels, Recipe
from budgetnet.run import Epoch, Note

FITTED, FITTED_AT_ONCE = 5000, 500
"""To how many training images a layer is fitted, and how many of them are shown at once."""
LARGEST = 1 << 25
"""Bytes of a split's images at most that a second copy is made of; no more than a share of what is free.

That is 10,000 images of 32 x 32: what tiny networks, to which it matters, learn from.
"""


@dataclass
class Execution:
    """How steps are executed, which changes no result.

    They call what the model was `compiled` to, if it was, and make their views by `fused`, where that is
    compiled; what fails to compile is given up. `chunks` say how images go through the model where nothing
    is learnt. `interleaved` copies of splits, by name, are read instead of them. Where others use the memory
    too, and it is not `alone`, a step that it does not suffice for is tried again when it is.
    """

    compiled: Compiled | None = None
    fused: FusedViews | None = None
    chunks: Chunks = field(default_factory=Chunks)
    interleaved: dict[str, Interleaved] = field(default_factory=dict)
    alone: bool = True

    @classmethod
    def chosen(
        cls,
        model: nn.Module,
        data: Data,
        recipe: Recipe,
        engine: Engine,
        choice: SpeedChoice,
        *,
        alone: bool = True,
    ) -> Self:
        """How a training of `model` on `data`, both on the device, is executed where this was the choice."""
        # Beside others, who share the images' memory, each would have a copy.
        execution = cls(alone=alone, interleaved=interleaved(data, recipe) if alone else {})
        if choice.chosen != "eager":
            execution.compiled = Compiled(model, recipe, choice)
            execution.fused = fused_views(engine.device, recipe, choice)
        return execution


@dataclass(frozen=True)
class Training:
    """What one training is of; all that changes is its `state`.

    It goes on from the weights that `earlier` epochs of other sessions left, and is the `session`-th, from 1.
    `hidden` knows what no state_dict holds, as it was before the first step. `tell` is told what is worth
    knowing. Where the processes of a `team` train it together, each holds all of it.
    """

    model: nn.Module
    data: Data
    recipe: Recipe
    engine: Engine
    state: State
    session: int = 1
    earlier: tuple[Epoch, ...] = ()
    tell: Callable[[Note], object] = lambda note: None
    execution: Execution = field(default_factory=Execution)
    hidden: Hidden = field(default_factory=Hidden)
    team: Team = ALONE

    @classmethod
    def fresh(cls, model: nn.Module, data: Data, recipe: Recipe, engine: Engine) -> Self:
        """A training before its first step."""
        return cls(model, data, recipe, engine, State(data.train))

    def alone(self, number: int, steps: int, **changes: Any) -> Self:
        """Phase `number`, from 1, with these `changes`, as a training of its own: an epoch of it has so many
        `steps`, and nothing is measured after it."""
        phase, images = self.recipe.phases[number - 1], len(self.data.train)
        size = phase.steps(images, self.recipe.batch_size)[1]
        own: dict[str, Any] = {"views": steps * size / images, "batch_size": size, "stop": None}
        # Labelling thousands of images is no part of a step.
        pseudo = None if isinstance(phase.pseudo, PseudoLabels) else phase.pseudo
        phase = replace(phase, **{**own, "start": "last", "pseudo": pseudo, **changes})
        recipe = replace(self.recipe, phases=[phase], measure=())
        return replace(self, recipe=recipe, state=State(self.data.train, clock=Clock(every=1)))

    @property
    def kept(self) -> Kept | None:
        """The weights that the recipe keeps, None before the first epoch."""
        return self.state.kept.get(self.role)

    @property
    def network(self) -> Callable[[Tensor], Tensor]:
        """What a training step calls: the model, or what it was compiled to."""
        return self.execution.compiled or self.model

    @property
    def lowered(self) -> float:
        """What the learning rate is multiplied by, after the steps that were undone."""
        backoff = self.recipe.on_nan
        return backoff.factor ** len(self.state.undone) if backoff is not None else 1.0

    @property
    def seed(self) -> int:
        """What the randomness of this session comes from."""
        return self.recipe.seed if self.session == 1 else mixed(self.recipe.seed, SESSION, self.session)

    @property
    def models(self) -> list[nn.Module]:
        """The model, and the averaged one where there is one."""
        average = self.state.average
        return [self.model] if average is None else [self.model, average.model]

    @property
    def measured(self) -> nn.Module:
        """The model that is validated: the averaged one where there is one."""
        return self.state.average.model if self.state.average is not None else self.model

    def phase_of(self, kept: Kept) -> Phase:
        """The phase that these weights were kept in."""
        return self.recipe.phases[kept.epoch.phase - 1]

    def of_phase(self, number: int) -> list[Epoch]:
        """The finished epochs of a phase of this session."""
        return [epoch for epoch in self.state.history if epoch.phase == number]

    @property
    def role(self) -> str:
        """As what the weights that the recipe keeps are kept."""
        return "best" if self.recipe.keeps_best else "last"

    @property
    def roles(self) -> list[str]:
        """In which roles the rest of the run may still ask for kept weights."""
        following = self.recipe.phases[self.state.phase :][:1]
        starts = any(phase.start == "best" for phase in following)
        return [self.role, *(["best_of_phase"] if starts else [])]


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
    own = own_parts(model)
    tensors = [tensor for part in held(loss, "loss") for tensor in part.tensors if id(tensor) not in own]
    return loss if all(tensor.device == device for tensor in tensors) else twin(loss, device, memo=own)


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


def own_parts(model: nn.Module) -> dict[int, object]:
    """A model's modules and tensors by their identity."""
    return {id(each): each for each in (*model.modules(), *model.parameters(), *model.buffers())}


def moved(data: Data, device: torch.device) -> Data:
    """The data with all their splits on the device, or pinned where they do not fit."""
    splits: dict[str, Any] = {name: split.to(device) for name, split in data.splits.items()}
    return replace(data, **splits)


def interleaved(data: Data, recipe: Recipe) -> dict[str, Interleaved]:
    """Copies of the splits that the epochs train on and measure, by name, where nothing acts on the images.

    To turn each batch into channels_last takes 4 % of a tiny network's step. What augments or resizes wants
    rows of pixels instead. Values and bits are the same.
    """
    if not all(_as_stored(phase, data.train) for phase in recipe.phases):
        return {}
    names = {"train", *recipe.measure}
    return {name: Interleaved(split) for name, split in data.splits.items() if name in names and _pays(split)}


def _as_stored(phase: Phase, train: Split) -> bool:
    """Whether all that a phase shows are the stored images, neither augmented nor resized."""
    test = phase.test
    if phase.augment or test.augment or test.views > 1 or phase.pseudo is not None:
        return False
    sizes = (phase.resolution, *test.at(phase.last_resolution))
    return all(size == side for size in sizes for side in train.shape[2:])


def _pays(split: Split) -> bool:
    if split.device.type != "cpu" or not at_hand(split) or split.shape[1] == 1:
        return False
    return split.images.numel() <= min(LARGEST, MEMORY_SHARE * free_memory())
