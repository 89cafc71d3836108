"""Distill: a step that replaces labels by what a teacher says of the very views that the student sees."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from budgetnet.augment import Batch, resize
from budgetnet.budget import DoesNotFit, check_fit, external, ledger, macs
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


Given = nn.Module | Teacher | str | os.PathLike[str]
"""What names one teacher."""


@dataclass(frozen=True)
class Distill:
    """Replace labels by a teacher's probabilities for the views, or by a mixture of both.

    Stands after the steps that move, recolour or mix images, where both are to see the same. Labels (B,) or
    (B, K) become (B, K): weight * softmax(teacher / temperature) + (1 - weight) * labels, which any loss that
    knows mixed labels learns from. With `beside=True` they become (B, 2, K), the teacher's probabilities and
    the given labels, for `DistillationLoss`, which then holds the weight. Reference:
    https://arxiv.org/abs/1503.02531.

    What stands before it is what the teacher sees, and what stands behind it is the student's alone: from
    [Flip(), Distill(teacher), TrivialAugmentWide(), Cutmix()] it learns to say of strong views what the
    teacher says of weak ones, the "noisy student" (https://arxiv.org/abs/1911.04252).

    Several teachers say the mean of their probabilities, which is right more often than each of them, and
    the student learns to say what all of them say together.

    The teacher is run in evaluation mode, without gradients, on the images' device, where it is moved; a
    module is put back into the mode that it was in. It sees floats in [0, 1] as every budgetnet model does:
    give one that expects normalised images as nn.Sequential(layers.standardise(mean, std), model).

    Args:
        teacher: a module (B, C, H, W) -> (B, K) logits, or the path of a run's folder or a model file, or the
            name of a model that comes along, such as "cifar10_300kb"; loaded at its first use. Or a list of
            such teachers.
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

    teacher: Given | Sequence[Given]
    weight: float = 1.0
    temperature: float = 1.0
    resolution: int | None = None
    beside: bool = False
    precision: Literal["float32", "bf16"] = "float32"
    acts_alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.teacher, list | tuple):
            if not self.teacher:
                raise ValueError("Distill's list of teachers is empty: name at least one")
            object.__setattr__(self, "teacher", tuple(_named(each) for each in self.teacher))
        else:
            object.__setattr__(self, "teacher", _named(self.teacher))
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
        """What the teachers compute by, in a few letters each: their code and weights, or their files."""
        marks = [each.mark() for each in self._each]
        return {"weights": marks if isinstance(self.teacher, tuple) else marks[0]}

    @cached_property
    def _each(self) -> tuple["_One", ...]:
        known = self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)
        return tuple(_One(name) for name in known if isinstance(name, Teacher | str))

    @property
    def models(self) -> list[nn.Module]:
        """The teachers themselves, loaded where they are files. Raises ValueError where there is none."""
        return [each.model for each in self._each]

    @property
    def pasts(self) -> list[Past]:
        """What each teacher learnt from, as far as it is known."""
        return [known for model in self.models if (known := past(model)) is not None]

    def teaching_macs(self, resolution: int) -> int:
        """Multiply-accumulates of all teachers for one view of so many pixels a side."""
        return sum(macs(model, self.resolution or resolution) for model in self.models)

    @property
    def external(self) -> str:
        """The external weights that teachers began from, and the student learns from; "" for none."""
        return "; ".join(dict.fromkeys(words for model in self.models if (words := external(model))))

    def ready(self, data: Data) -> None:
        """Refuse, with a ValueError, a teacher that cannot be had or tells other classes than these apart."""
        for each in self._each:
            each.ready(data, self.resolution)

    def act(self, images: Tensor, labels: Tensor, *, classes: int, generator: Generator) -> Batch:
        """The images as they are, float (B, C, H, W), and labels (B,) or (B, K) to (B, K) or (B, 2, K)."""
        if labels.ndim > 2:
            raise ValueError(
                f"Distill needs labels (B,) or (B, K), found {tuple(labels.shape)}: give one step "
                "all teachers in a list, for only the last step can keep them beside the labels"
            )
        if labels.ndim == 1:
            labels = labels[:, None] == torch.arange(classes, device=labels.device)
        labels = labels.float()
        half = self.precision == "bf16"
        seen = images if self.resolution is None else resize(images, (self.resolution, self.resolution))
        # As the trainer lays its own: where convolutions and pooling are up to twice as fast on a CPU.
        seen = seen.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            said = [
                torch.softmax(each.logits(seen, classes, half) / self.temperature, 1) for each in self._each
            ]
            taught = torch.stack(said).mean(dim=0)
        if self.beside:
            return images, torch.stack((taught, labels), dim=1)
        return images, torch.lerp(labels, taught, self.weight)


def _named(teacher: object) -> Teacher | str:
    """A teacher as it is kept in a recipe. Raises ValueError for what is none."""
    if isinstance(teacher, nn.Module):
        return Teacher(teacher)
    if isinstance(teacher, str | os.PathLike):
        return os.fspath(teacher)
    if not isinstance(teacher, Teacher):
        raise ValueError(
            "Distill's teacher should be a module, or the path of a run's folder or a model file, or a list "
            f"of these, not {teacher!r:.100}"
        )
    return teacher


class _One:
    """One teacher of a step: where it comes from, and what it says."""

    def __init__(self, name: Teacher | str) -> None:
        self.name = name

    def mark(self) -> str | None:
        """What it computes by, in a few letters: its code and weights, or its file; None without one."""
        if isinstance(self.name, Teacher):
            return mark(self.name.module)
        named = Path(self.name)
        path = named if named.exists() else weights().get(self.name, named)
        return file_mark(path / MODEL if path.is_dir() else path)

    @cached_property
    def model(self) -> nn.Module:
        if isinstance(self.name, Teacher):
            return self.name.module
        try:
            return load(self.name).requires_grad_(False)
        except ValueError as error:
            raise ValueError(f"Distill's teacher cannot be loaded: {error}") from None

    def ready(self, data: Data, resolution: int | None) -> None:
        """Refuse, with a ValueError, what cannot be had or tells other classes apart than the data's."""
        known = card(self.model)
        names = known.classes if known is not None else ()
        count = len(names) or self._count(known.crop if known is not None else None, data, resolution)
        if count != len(data.classes):
            differ = f" ({class_difference(data.classes, names)})" if names else ""
            raise ValueError(
                f"Distill's teacher {self.name!r} tells {count} classes apart, and {data.name} has "
                f"{len(data.classes)}{differ}: name a teacher that was trained on the same classes"
            )
        for at, (theirs, ours) in enumerate(zip(names, data.classes)):
            if theirs != ours:
                raise ValueError(
                    f"Distill's teacher {self.name!r} calls class {at} {theirs!r}, and {data.name} calls "
                    f"it {ours!r}: name a teacher that was trained on the same classes in the same order"
                )

    def logits(self, seen: Tensor, classes: int, half: bool) -> Tensor:
        """What it says of views (B, C, H, W): float (B, K)."""
        weight = next(chain(self.model.parameters(), self.model.buffers()), seen)
        if weight.device != seen.device:
            self.model.to(seen.device)
        rounding = torch.autocast(seen.device.type, torch.bfloat16) if half else nullcontext()
        with _evaluating(self.model):
            try:
                with rounding:
                    logits = self.model(seen)
            except RuntimeError:
                # Says in a sentence that the views do not fit the teacher, if that is the reason.
                check_fit(self.model, (seen.shape[-2], seen.shape[-1]), channels=seen.shape[1])
                raise
        if not isinstance(logits, Tensor) or tuple(logits.shape) != (len(seen), classes):
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"Distill's teacher {self.name!r} should give logits ({len(seen)}, {classes}), "
                f"gave {given}: name one that was trained on the same classes"
            )
        return logits.float()

    def _count(self, crop: int | None, data: Data, resolution: int | None) -> int:
        """How many classes a teacher without names tells apart, at a resolution that fits it."""
        channels = int(data.train.images.shape[1])
        size = resolution or crop or min(data.train.images.shape[-2:])
        try:
            shape = ledger(self.model, size, channels=channels).rows[0].shape
        except DoesNotFit as error:
            if resolution is not None or error.smallest is None:
                raise ValueError(f"Distill's teacher {self.name!r} cannot see the images: {error}") from None
            shape = ledger(self.model, error.smallest, channels=channels).rows[0].shape
        if shape is None or len(shape) != 2:
            raise ValueError(f"Distill's teacher {self.name!r} should give logits (B, K), gives {shape}")
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
