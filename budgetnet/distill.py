"""Distill: a step that replaces labels by what a teacher says of the very views that the student sees."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from budgetnet.augment import Batch, resize
from budgetnet.budget import DoesNotFit, check_fit, external, ledger
from budgetnet.data import Data, Past, class_difference, past
from budgetnet.identity import Named, file_mark, mark
from budgetnet.modelfile import card, load, weights
from budgetnet.run import MODEL
from budgetnet.values import number, one_of, true_or_false, whole


class Teacher(Named):
    """A module that teaches, told in a few words wherever a recipe is shown or recorded."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __repr__(self) -> str:
        count = sum(parameter.numel() for parameter in self.module.parameters())
        return f"<{type(self.module).__name__} of {count:,} parameters>"


@dataclass(frozen=True)
class Distill:
    """Replace labels by a teacher's probabilities for the views, or by a mixture of both.

    Stands after the steps that move, recolour or mix images. Labels (B,) or (B, K) become (B, K):
    weight * softmax(teacher / temperature) + (1 - weight) * labels, which any loss that knows mixed labels
    learns from. With `beside=True` they become (B, 2, K), the teacher's probabilities and the given labels,
    for `DistillationLoss`, which then holds the weight. Reference: https://arxiv.org/abs/1503.02531.

    The teacher is run in evaluation mode, without gradients, on the images' device, where it is moved; a
    module is put back into the mode that it was in. It sees floats in [0, 1] as every budgetnet model does:
    give one that expects normalised images as nn.Sequential(layers.standardise(mean, std), model).

    Args:
        teacher: a module (B, C, H, W) -> (B, K) logits, or the path of a run's folder or a model file, or the
            name of a model that comes along, such as "cifar10_300kb"; loaded at its first use.
        weight: the teacher's share in [0, 1].
        temperature: above 0; above 1 the smaller probabilities count for more.
        resolution: the side in pixels that the views are resized to for the teacher; theirs if None.
        beside: keep the given labels apart.
        precision: "float32", or "bf16", in which the teacher is about twice as fast where the device has it.

    Raises:
        ValueError: a value is not as above, there is no such file, or the teacher gives other logits.

    Example:
        >>> augment = [Crop(), Flip(), Distill("runs/large-1", temperature=4.0, beside=True)]
        >>> loss = DistillationLoss(weight=0.9, temperature=4.0)
    """

    teacher: nn.Module | Teacher | str | os.PathLike[str]
    weight: float = 1.0
    temperature: float = 1.0
    resolution: int | None = None
    beside: bool = False
    precision: Literal["float32", "bf16"] = "float32"
    acts_alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.teacher, nn.Module):
            object.__setattr__(self, "teacher", Teacher(self.teacher))
        elif isinstance(self.teacher, str | os.PathLike):
            object.__setattr__(self, "teacher", os.fspath(self.teacher))
        elif not isinstance(self.teacher, Teacher):
            raise ValueError(
                "Distill's teacher should be a module, or the path of a run's folder or a model file, "
                f"not {self.teacher!r:.100}"
            )
        number("Distill's weight", self.weight, least=0, most=1)
        number("Distill's temperature", self.temperature, above=0, most=1e6)
        if self.resolution is not None:
            whole("Distill's resolution", self.resolution, 1, 100_000)
        true_or_false("Distill's beside", self.beside)
        one_of("Distill's precision", self.precision, ("float32", "bf16"))
        if self.beside and self.weight != 1:
            raise ValueError(
                "Distill's weight mixes the labels that beside=True keeps apart: leave it out, and write "
                f"DistillationLoss(weight={self.weight!r}, temperature={self.temperature!r})"
            )

    def identity(self) -> dict[str, object]:
        """What the teacher computes by, in a few letters: its code and weights, or its file."""
        if isinstance(self.teacher, Teacher):
            return {"weights": mark(self.teacher.module)}
        assert isinstance(self.teacher, str)
        named = Path(self.teacher)
        path = named if named.exists() else weights().get(self.teacher, named)
        return {"weights": file_mark(path / MODEL if path.is_dir() else path)}

    @cached_property
    def model(self) -> nn.Module:
        """The teacher itself, loaded where it is a file. Raises ValueError where there is none."""
        if isinstance(self.teacher, Teacher):
            return self.teacher.module
        assert isinstance(self.teacher, str)
        try:
            return load(self.teacher).requires_grad_(False)
        except ValueError as error:
            raise ValueError(f"Distill's teacher cannot be loaded: {error}") from None

    @property
    def past(self) -> Past | None:
        """What the teacher learnt from, as far as it is known."""
        return past(self.model)

    @property
    def external(self) -> str:
        """The external weights that the teacher began from, and the student learns from; "" for none."""
        return external(self.model)

    def ready(self, data: Data) -> None:
        """Refuse, with a ValueError, a teacher that cannot be had or tells other classes than these apart."""
        known = card(self.model)
        names = known.classes if known is not None else ()
        count = len(names) or self._count(known.crop if known is not None else None, data)
        if count != len(data.classes):
            differ = f" ({class_difference(data.classes, names)})" if names else ""
            raise ValueError(
                f"Distill's teacher {self.teacher!r} tells {count} classes apart, and {data.name} has "
                f"{len(data.classes)}{differ}: name a teacher that was trained on the same classes"
            )
        for at, (theirs, ours) in enumerate(zip(names, data.classes)):
            if theirs != ours:
                raise ValueError(
                    f"Distill's teacher {self.teacher!r} calls class {at} {theirs!r}, and {data.name} calls "
                    f"it {ours!r}: name a teacher that was trained on the same classes in the same order"
                )

    def act(self, images: Tensor, labels: Tensor, *, classes: int, generator: Generator) -> Batch:
        """The images as they are, float (B, C, H, W), and labels (B,) or (B, K) to (B, K) or (B, 2, K)."""
        if labels.ndim > 2:
            raise ValueError(
                f"Distill needs labels (B,) or (B, K), found {tuple(labels.shape)}: only the last of several "
                "teachers can keep them beside its own"
            )
        if labels.ndim == 1:
            labels = labels[:, None] == torch.arange(classes, device=labels.device)
        labels = labels.float()
        with torch.no_grad():
            taught = torch.softmax(self._logits(images, classes) / self.temperature, dim=1)
        if self.beside:
            return images, torch.stack((taught, labels), dim=1)
        return images, torch.lerp(labels, taught, self.weight)

    def _logits(self, images: Tensor, classes: int) -> Tensor:
        seen = images if self.resolution is None else resize(images, (self.resolution, self.resolution))
        weight = next(chain(self.model.parameters(), self.model.buffers()), seen)
        if weight.device != seen.device:
            self.model.to(seen.device)
        with _evaluating(self.model):
            try:
                with self._rounding(seen.device):
                    logits = self.model(seen)
            except RuntimeError:
                # Says in a sentence that the views do not fit the teacher, if that is the reason.
                check_fit(self.model, (seen.shape[-2], seen.shape[-1]), channels=seen.shape[1])
                raise
        if not isinstance(logits, Tensor) or tuple(logits.shape) != (len(images), classes):
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"Distill's teacher {self.teacher!r} should give logits ({len(images)}, {classes}), "
                f"gave {given}: name one that was trained on the same classes"
            )
        return logits.float()

    def _rounding(self, device: torch.device) -> AbstractContextManager[object]:
        half = self.precision == "bf16"
        return torch.autocast(device.type, torch.bfloat16) if half else nullcontext()

    def _count(self, crop: int | None, data: Data) -> int:
        """How many classes a teacher without names tells apart, at a resolution that fits it."""
        channels = int(data.train.images.shape[1])
        size = self.resolution or crop or min(data.train.images.shape[-2:])
        try:
            shape = ledger(self.model, size, channels=channels).rows[0].shape
        except DoesNotFit as error:
            if self.resolution is not None or error.smallest is None:
                raise ValueError(
                    f"Distill's teacher {self.teacher!r} cannot see the images: {error}"
                ) from None
            shape = ledger(self.model, error.smallest, channels=channels).rows[0].shape
        if shape is None or len(shape) != 2:
            raise ValueError(f"Distill's teacher {self.teacher!r} should give logits (B, K), gives {shape}")
        return shape[1]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Within it the model is in evaluation mode; afterwards each module is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
