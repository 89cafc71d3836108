"""A view as a whole: order, sizes, replay, steps of other makers, refusals; and the view that a test sees."""

import functools
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Generator, Tensor, nn
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from budgetnet import augment
from budgetnet.augment import (
    Crop,
    Cutmix,
    Erase,
    Flip,
    Grayscale,
    Jitter,
    Mixup,
    RandAugment,
    Rotate,
    Translate,
    TrivialAugmentWide,
)

FIXRES = [Rotate(45), Crop((0.08, 1.0)), Jitter(0.3, 0.3, 0.3, 0.3), Flip(), Flip(vertical=True)]
EVERY = [
    Rotate(45, fill=0.5),
    Crop(),
    Jitter(0.5, 0.5, 0.5, 0.5),
    Jitter(0.5, 0.5, 0.5, 0.5, exact_hue=True),
    Flip(),
    Flip(vertical=True),
    Translate(0.3),
    Grayscale(0.3),
    Erase(value="noise"),
    Mixup(0.4),
    Cutmix(1.0),
    RandAugment(),
    TrivialAugmentWide(),
]


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def stored(count: int, height: int, width: int, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, channels, height, width), generator=seeded(5)).to(torch.uint8)


def view(
    images: Tensor, steps: Sequence[Any], resolution: int, seed: int = 0, classes: int = 10
) -> tuple[Tensor, Tensor]:
    labels = torch.arange(len(images)) % classes
    return augment.view(images, labels, steps, resolution=resolution, classes=classes, generator=seeded(seed))


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size", [(96, 96), (50, 75), (20, 20)])
@pytest.mark.parametrize("resolution", [20, 37, 96])
def test_without_steps_a_view_is_torchvisions_resize(size: tuple[int, int], resolution: int) -> None:
    images = stored(3, *size)
    views, labels = view(images, [], resolution)
    theirs = reference.to_dtype(images, torch.float32, scale=True)
    theirs = reference.resize(theirs, [resolution, resolution], antialias=True)
    assert (views - theirs).abs().max() < 1e-6
    assert torch.equal(labels, torch.arange(3))


@pytest.mark.parametrize("size", [(96, 96), (48, 64), (64, 48), (33, 33)])
@pytest.mark.parametrize(("resize", "crop"), [(70, 70), (40, 32), (97, 64), (33, 20)])
def test_a_test_view_is_torchvisions_resize_and_centre_crop(
    size: tuple[int, int], resize: int, crop: int
) -> None:
    for channels in (1, 3):
        images = stored(2, *size, channels)
        theirs = reference.to_dtype(images, torch.float32, scale=True)
        theirs = reference.center_crop(
            reference.resize(theirs, [resize, resize], antialias=True), [crop, crop]
        )
        ours = augment.test_view(images, resize=resize, crop=crop)
        assert ours.dtype == torch.float32
        assert (ours - theirs).abs().max() < 1e-6


@given(
    steps=some.lists(some.sampled_from(EVERY), max_size=5),
    count=some.integers(1, 5),
    height=some.integers(1, 40),
    width=some.integers(1, 40),
    channels=some.sampled_from([1, 3]),
    resolution=some.integers(1, 41),
    seed=some.integers(0, 2**32),
)
@settings(max_examples=150, deadline=None)
def test_every_view_is_a_batch_of_brightnesses(
    steps: list[Any], count: int, height: int, width: int, channels: int, resolution: int, seed: int
) -> None:
    images = stored(count, height, width, channels)
    before = images.clone()
    views, labels = view(images, steps, resolution, seed)
    assert views.shape == (count, channels, resolution, resolution)
    assert views.dtype == torch.float32
    assert views.isfinite().all()
    assert views.min() >= 0
    assert views.max() <= 1
    assert torch.equal(images, before)
    if any(isinstance(step, (Mixup, Cutmix)) for step in steps):
        assert labels.shape == (count, 10)
        assert (labels.sum(dim=1) - 1).abs().max() < 1e-5
    else:
        assert torch.equal(labels, torch.arange(count) % 10)


@pytest.mark.parametrize("step", EVERY, ids=str)
def test_images_of_a_batch_get_parameters_of_their_own(step: Any) -> None:
    images = stored(1, 32, 32).expand(24, 3, 32, 32).contiguous()
    images[1::2] = 255 - images[1::2]
    views, labels = view(images, [step], 32)
    alike = torch.cat([views.flatten(1), labels.reshape(24, -1).float()], dim=1)[::2]
    kinds = 2 if isinstance(step, (Flip, Grayscale)) else 4
    assert len(alike.unique(dim=0)) >= kinds


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("steps", [FIXRES, EVERY], ids=["fixres", "every"])
def test_a_view_is_replayed_from_its_seed_on_any_number_of_threads(steps: list[Any], count: int) -> None:
    images = stored(count, 130, 130)
    results = []
    for number in (1, 2, 3):
        with threads(number):
            results.append(view(images, steps, 120, seed=4))
    for views, labels in results[1:]:
        assert torch.equal(views, results[0][0])
        assert torch.equal(labels, results[0][1])
    assert not torch.equal(view(images, steps, 120, seed=5)[0], results[0][0])


def test_no_generator_of_torch_python_or_the_user_is_moved() -> None:
    steps = [*EVERY, v2.RandomHorizontalFlip(), v2.GaussianNoise(), lambda images, labels: (images, labels)]
    before = (torch.get_rng_state(), random.getstate())
    view(stored(4, 24, 24), steps, 24)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_steps_act_in_the_order_of_the_list() -> None:
    images = torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    black, corners = Jitter(brightness=(0.0, 0.0)), Rotate((45, 45), fill=1.0)
    first, _ = view(images, [black, corners], 16)
    last, _ = view(images, [corners, black], 16)
    assert first[0, 0, 0, 0] == 1
    assert first[0, 0, 8, 8] == 0
    assert last.max() == 0
    erased, _ = view(images, [Erase(1.0, (0.3, 0.3), (1.0, 1.0)), Jitter(brightness=(0.5, 0.5))], 16)
    assert set(erased.unique().tolist()) == {0.0, 0.5}


def test_the_first_warp_reads_the_stored_size_and_later_ones_the_resolution() -> None:
    seen: list[tuple[int, ...]] = []

    def look(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(tuple(images.shape[-2:]))
        return images, labels

    images = stored(2, 40, 60)
    view(images, [look, Crop(), look, Rotate(10), look], 24)
    assert seen == [(40, 60), (24, 24), (24, 24)]
    seen.clear()
    view(images, [look, Flip(), look], 24)
    assert seen == [(24, 24), (24, 24)]
    seen.clear()
    view(images, [Flip(), look, Crop(), look], 24)
    assert seen == [(40, 60), (24, 24)]


def test_consecutive_warps_blur_less_than_one_after_the_other() -> None:
    images = stored(4, 48, 48)
    turns = [Rotate((20, 20)), Rotate((-20, -20))]
    original, _ = view(images, [], 48)
    together, _ = view(images, turns, 48)
    apart, _ = view(images, [turns[0], lambda images: images, turns[1]], 48)
    middle = (slice(None), slice(None), slice(16, 32), slice(16, 32))
    assert (together - original)[middle].abs().max() < 1e-4
    assert (apart - original)[middle].abs().mean() > 0.05


@pytest.mark.parametrize(
    "step",
    [
        v2.ColorJitter(0.3, 0.3, 0.3, 0.3),
        v2.RandomErasing(1.0),
        v2.AutoAugment(),
        v2.Compose([v2.RandomRotation(30), v2.RandomHorizontalFlip()]),
        v2.RandomChoice([v2.MixUp(num_classes=10), v2.CutMix(num_classes=10)]),
        nn.Sequential(v2.RandomCrop(24, padding=4), v2.GaussianBlur(3)),
        v1.RandomAffine(10),
        functools.partial(lambda images, dim: images.flip(dim), dim=-1),
    ],
    ids=lambda step: type(step).__name__,
)
def test_a_step_of_torchvision_or_a_callable_works_and_is_replayed(step: Any) -> None:
    images = stored(6, 24, 24)
    original, _ = view(images, [], 24)
    torch.manual_seed(0)
    views, labels = view(images, [step, Flip()], 24, seed=3)
    torch.manual_seed(1)
    again, labels_again = view(images, [step, Flip()], 24, seed=3)
    assert torch.equal(views, again)
    assert torch.equal(labels, labels_again)
    assert not torch.equal(views, original)


@pytest.mark.parametrize("make", [v2.MixUp, v2.CutMix])
def test_torchvisions_mixing_gives_probabilities(make: type[v2.Transform]) -> None:
    _, labels = view(stored(6, 24, 24), [Crop(), make(num_classes=10), Mixup(0.2)], 24)
    assert labels.shape == (6, 10)
    assert (labels.sum(dim=1) - 1).abs().max() < 1e-6


def broken(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    raise RuntimeError("out of\n  luck")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (v2.ToPILImage(), r"ToPILImage\(\) failed on images \(4, 3, 24, 24\)"),
        (v1.ToTensor(), r"ToTensor\(\) failed"),
        (broken, r"broken.*out of luck"),
        (
            lambda images, labels: (images[:2], labels),
            r"lambda.*should answer float images of 4 x 3.*shape \(2",
        ),
        (lambda images: images.byte(), "lambda.*should answer float images.*torch.uint8"),
        (lambda images: images.mean(dim=1, keepdim=True), "lambda.*should answer float images"),
        (lambda images: None, "lambda.*should answer float images.*NoneType"),
        (
            lambda images, labels: (images, labels[:1]),
            r"lambda.*should answer labels of shape \(4,\) or \(4, 10\)",
        ),
        (v2.MixUp(num_classes=7), r"MixUp.*should answer labels.*not shape \(4, 7\)"),
        (v2.Resize(12), r"Resize.*answers images of \(12, 12\) pixels where the resolution is 24"),
        (3, "3 is no step"),
    ],
)
def test_a_step_that_fails_or_answers_something_else_is_named_in_one_sentence(step: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refusal:
        view(stored(4, 24, 24), [step], 24)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": torch.zeros(2, 3, 8, 8)}, "uint8 .*not torch.float32"),
        ({"images": torch.zeros(2, 8, 8, dtype=torch.uint8)}, r"\(B, C, H, W\).*not torch.uint8 \(2, 8, 8\)"),
        ({"images": torch.zeros(0, 3, 8, 8, dtype=torch.uint8)}, r"not torch.uint8 \(0, 3, 8, 8\)"),
        ({"labels": torch.zeros(3)}, r"labels should be of shape \(2,\) or \(2, 4\), not \(3,\)"),
        ({"resolution": 0}, "resolution should be .* not 0"),
        ({"resolution": 7.5}, "resolution should be .* not 7.5"),
    ],
)
def test_what_is_no_batch_is_refused(change: dict[str, Any], said: str) -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    asked = {"images": images, "labels": torch.zeros(2), "steps": [], "resolution": 8, **change}
    with pytest.raises(ValueError, match=said):
        augment.view(**asked, classes=4, generator=seeded())


@pytest.mark.parametrize(("resize", "crop"), [(0, 1), (8, 9), (8, 2.5)])
def test_an_impossible_test_view_is_refused(resize: int, crop: int) -> None:
    with pytest.raises(ValueError, match=r"crop|resize"):
        augment.test_view(stored(1, 8, 8), resize=resize, crop=crop)


@pytest.mark.parametrize("step", [*EVERY, Erase(0.5, value=0.5), RandAugment(fill=0.5)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_waits_for_the_device(step: Any, channels: int) -> None:
    """The meta device has shapes and no values: whatever the host had to read there would fail."""
    images, labels = stored(40, 64, 48, channels).to("meta"), torch.arange(40).to("meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        images.float().mean().item()
    generator = seeded()
    for resolution in (16, 64):
        views, after = augment.view(
            images, labels, [step, Crop(), step], resolution=resolution, classes=10, generator=generator
        )
        assert views.shape == (40, channels, resolution, resolution)
        assert views.device.type == after.device.type == "meta"
    assert augment.test_view(images, resize=48, crop=32).shape == (40, channels, 32, 32)


def test_autocast_does_not_blur_a_view() -> None:
    images = stored(4, 24, 24)
    with torch.autocast("cpu", torch.bfloat16):
        inside, _ = view(images, EVERY, 24)
    assert torch.equal(inside, view(images, EVERY, 24)[0])


@pytest.mark.slow
def test_a_view_survives_torch_compile() -> None:
    images = stored(4, 32, 32)
    compiled = torch.compile(augment.view, backend="eager")
    labels = torch.arange(4)
    for steps in (FIXRES, EVERY):
        views, _ = compiled(images, labels, steps, resolution=24, classes=10, generator=seeded())
        assert torch.allclose(views, view(images, steps, 24)[0], atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("steps", [FIXRES, EVERY], ids=["fixres", "every"])
def test_a_view_never_waits_for_the_gpu_and_sees_there_what_it_sees_here(steps: list[Any]) -> None:
    images, labels = stored(16, 48, 48), torch.arange(16) % 10
    here, labels_here = view(images, steps, 32)
    there = (images.cuda(), labels.cuda())
    state = torch.cuda.get_rng_state()
    torch.cuda.set_sync_debug_mode("error")
    try:
        views, labels = augment.view(*there, steps, resolution=32, classes=10, generator=seeded())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert (views.cpu() - here).abs().mean() < 1e-3
    assert torch.allclose(labels.cpu().float(), labels_here.float(), atol=1e-5)
