"""Steps that are not ours: torchvision.transforms.v2 modules, and any callable."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor, nn

from budgetnet.augment.steps import Batch
from budgetnet.randomness import forked


def call(
    step: Callable[..., Any], images: Tensor, labels: Tensor, classes: int, generator: Generator
) -> Batch:
    """`step(images, labels)`, or `step(images)` where it takes no more, on a whole float batch.

    Torch's own generators are seeded from `generator` for the call and put back afterwards.

    Args:
        images: float32 (B, C, H, W) in [0, 1].
        labels: (B,) whole numbers, or (B, K) probabilities.

    Raises:
        ValueError: the step fails, or what it answers is not such a batch of the same B and C; it is named.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    try:
        with _seeded(seed, images.device):
            result = step(images, labels) if _takes_labels(step) else step(images)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"step {name(step)} failed on images {tuple(images.shape)} and labels {tuple(labels.shape)} "
            f"({_flat(str(error) or type(error).__name__)}): a step takes tensors, a whole batch at a time"
        ) from error
    is_pair = isinstance(result, tuple | list) and len(result) == 2
    new_images, new_labels = result if is_pair else (result, labels)
    return checked_images(step, new_images, images), _checked_labels(step, new_labels, labels, classes)


def name(step: object) -> str:
    """The step as it is written, on one line, without the place in memory that a function's name has."""
    return re.sub(r" at 0x[0-9a-f]+", "", _flat(repr(step)))


def _takes_labels(step: Callable[..., Any]) -> bool:
    try:
        inspect.signature(step.forward if isinstance(step, nn.Module) else step).bind(None, None)
    except TypeError:
        return False
    except ValueError:
        pass
    return True


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    with forked(device):
        # torch.manual_seed would seed every device, also those that are not put back.
        torch.default_generator.manual_seed(seed)
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)
        yield


def checked_images(step: object, images: object, given: Tensor) -> Tensor:
    """The images that a step answers, float32. Raises ValueError for what is no batch as it was given."""
    if isinstance(images, Tensor) and images.ndim == 4 and images.shape[:2] == given.shape[:2]:
        if images.is_floating_point() and images.device == given.device:
            return images.as_subclass(Tensor).float()
        kind = f"{images.dtype} on {images.device}"
    else:
        kind = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
    raise ValueError(
        f"step {name(step)} should answer float images of {given.shape[0]} x {given.shape[1]} channels on "
        f"{given.device}, as it was given, not {kind}"
    )


def _checked_labels(step: object, labels: object, given: Tensor, classes: int) -> Tensor:
    count = len(given)
    # Those that a teacher has said something beside may stay as they were.
    if isinstance(labels, Tensor) and tuple(labels.shape) in ((count,), (count, classes), tuple(given.shape)):
        return labels
    kind = f"shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
    raise ValueError(
        f"step {name(step)} should answer labels of shape ({count},) or ({count}, {classes}), not {kind}"
    )


def _flat(text: str) -> str:
    return " ".join(text.split())
