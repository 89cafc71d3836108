"""Views stay where a test shows images: a step that takes them out of [0, 1] is refused by name."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from budgetnet import Data, FixMatch, Phase, Recipe, Test, Trainer, arrays, augment, models
from budgetnet.augment import check_within
from budgetnet.augment.foreign import name

BICUBIC = InterpolationMode.BICUBIC


@pytest.fixture(params=["photos", "drawn on white", "drawn on black"])
def images(request: pytest.FixtureRequest) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if request.param == "photos":
        small = torch.rand(16, 3, 5, 5, generator=generator)
        found: Tensor = nn.functional.interpolate(small, (24, 24), mode="bilinear")
        return found.mul(255).round().to(torch.uint8)
    drawn = (torch.rand(16, 3, 24, 24, generator=generator) < 0.1).float() * 255
    return (drawn if request.param == "drawn on black" else 255 - drawn).to(torch.uint8)


def check(steps: list[Any], images: Tensor, resolution: int = 16) -> None:
    check_within(steps, images, torch.arange(len(images)) % 4, resolution=resolution, classes=4)


def standardised(images: Tensor) -> Tensor:
    return (images - images.mean(dim=(1, 2, 3), keepdim=True)) / images.std(dim=(1, 2, 3), keepdim=True)


OUT: list[Callable[..., Any]] = [
    v2.Normalize([0.1307], [0.3081]),
    v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    v2.Normalize([0.5], [0.5]),
    v2.Normalize([0.0], [0.5]),
    v2.Compose([v2.RandomHorizontalFlip(), v2.Normalize([0.5], [0.25])]),
    lambda images: images * 255,
    lambda images: images - 0.5,
    lambda images: 2 * images - 1,
    standardised,
]
WITHIN: list[Callable[..., Any]] = [
    v2.RandomResizedCrop(16, interpolation=BICUBIC),
    v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
    v2.RandomErasing(1.0, value="random"),
    v2.GaussianNoise(sigma=0.2, clip=False),
    v2.GaussianBlur(3),
    v2.RandomSolarize(0.5),
    v2.RandomInvert(1.0),
    v2.RandomAdjustSharpness(4.0, p=1.0),
    v2.RandomAutocontrast(1.0),
    v2.ElasticTransform(20.0, 1.0),
    v2.MixUp(num_classes=4),
    v2.CutMix(num_classes=4),
    lambda images: images * (0.8 + 0.4 * torch.rand(len(images), 1, 1, 1)),
    lambda images, labels: (images.flip(-1), labels),
]


@pytest.mark.parametrize("step", OUT, ids=lambda step: repr(step).split(" at 0x")[0])
@pytest.mark.parametrize("later", [[], [augment.Flip(), augment.Crop()], [augment.Jitter(0.2)]])
def test_a_step_that_leaves_the_range_is_refused_by_name(step: Any, later: list[Any], images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"out of \[0, 1\].*\.clamp\(0, 1\)") as refusal:
        check([augment.Flip(), step, *later], images)
    assert name(step) in str(refusal.value)


@pytest.mark.parametrize("step", WITHIN, ids=lambda step: repr(step).split(" at 0x")[0])
def test_what_overshoots_a_little_is_not_refused(step: Any, images: Tensor) -> None:
    for _ in range(3):
        check([augment.Flip(), step], images)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (lambda images: images / images.sum() * torch.nan, "NaN or infinite"),
        (lambda images: images / 0, "NaN or infinite"),
        (lambda images: images / 255, "all but black"),
        (lambda images: images[:, :1], "should answer float images"),
        (lambda images: images[:3], "should answer float images"),
        (lambda images: (images * 255).to(torch.uint8), "should answer float images"),
        (lambda images: images[..., :4], "leave sizes to the resolution"),
        (lambda images, labels: (images, labels[:2]), "should answer labels"),
        (lambda images: images.nothing, "failed on images"),
    ],
)
def test_other_wrong_answers_are_refused_before_the_first_step(step: Any, said: str, images: Tensor) -> None:
    with pytest.raises(ValueError, match=said):
        check([step], images)


class Channels:
    """A step with `act`, as budgetnet's own that mix."""

    def act(self, images: Tensor, labels: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        return images[:, :1], labels


def test_a_step_with_act_answers_images_too(images: Tensor) -> None:
    with pytest.raises(ValueError, match="should answer float images"):
        check([Channels()], images)


def test_trying_leaves_generators_and_steps_as_they_were(images: Tensor) -> None:
    class Counting:
        calls = 0

        def __call__(self, images: Tensor) -> Tensor:
            self.calls += 1
            return images * float(np.random.rand() * random.random() * torch.rand(()))

    step = Counting()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index, union-attr]
    check([step], images)
    assert step.calls == 0
    assert torch.equal(torch.get_rng_state(), expected[0])
    assert (np.random.get_state()[1] == expected[1]).all()  # type: ignore[index]
    assert random.getstate() == expected[2]


def test_our_own_steps_are_not_tried(images: Tensor) -> None:
    class Never(augment.Mixup):
        """A step of a user who made one of ours more."""

    check([augment.Mixup(0.2), augment.Erase(1.0), augment.RandAugment()], images)
    check([Never(0.2)], images)


@pytest.mark.parametrize(
    "phase",
    [
        {"augment": [v2.Normalize([0.5], [0.25])]},
        {"test": Test(augment=[v2.Normalize([0.5], [0.25])])},
        {"pseudo": FixMatch(weak=[v2.Normalize([0.5], [0.25])])},
        {"pseudo": FixMatch(strong=[v2.Normalize([0.5], [0.25])])},
    ],
)
def test_all_views_of_all_phases_are_tried_before_the_first_step(phase: dict[str, Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8)).astype(np.uint8)
    whole = arrays(pixels, np.arange(24) % 3, held_out=6)
    data = Data(whole.train, whole.val, None, whole.classes, "tones", whole.train)
    model = models.convnet(3, channels=1, widths=(4,))
    asked = Recipe([Phase(1, 8, 0.1), Phase(1, 8, 0.1, **phase)], batch_size=8)
    with pytest.raises(ValueError, match=r"^phase 2: step Normalize.* takes images out of \[0, 1\]"):
        Trainer("cpu", out=None, show=False).check(model, data, asked)


def test_an_evaluation_with_views_of_its_own_is_looked_at_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8)).astype(np.uint8)
    data = arrays(pixels, np.arange(24) % 3)
    test = Test(8, 8, augment=[v2.Normalize([0.5], [0.25])])
    with pytest.raises(ValueError, match=r"takes images out of \[0, 1\]"):
        Trainer("cpu", out=None, show=False).evaluate(
            models.convnet(3, channels=1, widths=(4,)), data.train, test=test
        )
