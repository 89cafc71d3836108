"""Fused views: the same numbers make the same views as `view`, uncompiled and compiled."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from budgetnet.augment import (
    AlternatingFlip,
    CenterCrop,
    Crop,
    Erase,
    Flip,
    FusedViews,
    Grayscale,
    Jitter,
    Mixup,
    Place,
    RandAugment,
    Rotate,
    Shift,
    Translate,
    at_place,
    draw,
    view,
)
from budgetnet.augment.steps import fuses
from budgetnet.trainer import Trainer
from tests.pretended import pretended
from tests.test_speed import photos as data
from tests.test_speed import recipe, smallest

FIXRES = (Rotate(45), Crop(), Jitter(0.3, 0.3, 0.3, 0.3), Flip(), Flip(vertical=True))
STEPS: list[Any] = [
    Rotate(45),
    Rotate((10, 20), fill=(0.1, 0.5, 0.9)),
    Translate(0.2, fill=0.5),
    Crop(),
    CenterCrop(0.8),
    Flip(),
    Flip(vertical=True),
    AlternatingFlip(),
    Shift(2),
    Shift(3, fill=0.2),
    Jitter(0.3, 0.3, 0.3, 0.3),
    Jitter(0.2, 0.2, 0.2, 0.2, exact_hue=True),
    Jitter(brightness=0.5),
    Grayscale(0.5),
    Erase(0.5),
    Mixup(0.4),
]


class Zoom:
    """A warp of somebody's own that can be compiled."""

    fused = True

    def maps(self, generator: Any, count: int, height: int, width: int) -> Tensor:
        maps = torch.eye(3, device=generator.device).repeat(count, 1, 1)
        maps[:, :2] *= draw.uniform(generator, (count, 1, 1), 0.5, 1.2)
        return maps


class Redden:
    """A colour step of somebody's own that can be compiled."""

    fused = True

    def matrices(self, generator: Any, count: int, channels: int) -> Tensor:
        matrices = torch.eye(channels, channels + 1, device=generator.device).repeat(count, 1, 1)
        matrices[:, 0, -1] = 0.1 * draw.even(generator, (count,))
        return matrices


class Narrow(Zoom):
    """One that writes its maps anew, and says nothing of compiling them."""

    def maps(self, generator: Any, count: int, height: int, width: int) -> Tensor:
        maps = torch.eye(3).repeat(count, 1, 1)
        maps[:, 0] *= torch.rand(count, 1, generator=generator)
        return maps


def photos(count: int = 6, side: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 3, side // 4, side // 4, generator=generator)
    smooth = F.interpolate(coarse, (side, side), mode="bicubic")
    return smooth.mul(50).add(128).clamp(0, 255).to(torch.uint8)


def placed(steps: Sequence[Any], count: int, at: int) -> tuple[Any, ...]:
    return at_place(steps, Place(torch.arange(count) + at, torch.full((count,), at), 7))


def agree(make: Callable[..., Any], steps: Sequence[Any], resolution: int, *, count: int = 6) -> None:
    images, labels = photos(count), torch.arange(count) % 4
    for at in range(2):
        chosen, state = placed(steps, count, at), torch.Generator().manual_seed(at)
        theirs = torch.Generator().manual_seed(at)
        found, given_labels = make(images, labels, chosen, resolution=resolution, classes=4, generator=state)
        expected, expected_labels = view(
            images, labels, chosen, resolution=resolution, classes=4, generator=theirs
        )
        assert found.shape == (count, 3, resolution, resolution)
        assert torch.allclose(found, expected, atol=1e-5)
        assert torch.allclose(given_labels.float(), expected_labels.float(), atol=1e-6)
        # What draws next draws the same.
        assert torch.equal(state.get_state(), theirs.get_state())


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=5), st.sampled_from([12, 24, 30]))
def test_any_list_makes_the_views_of_view(steps: list[Any], resolution: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda function, **_: function)
        agree(FusedViews(), steps, resolution)


def test_a_list_is_compiled_once_whatever_its_coins(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def count(function: Any, **_: Any) -> Any:
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", count)
    make = FusedViews()
    for _ in range(3):
        agree(make, [AlternatingFlip(), Shift(2)], 24)
        agree(make, FIXRES, 20)
    assert compiled == ["parameters", "pixels"] * 2


def test_images_and_steps_are_checked_as_by_view(uncompiled: None) -> None:
    with pytest.raises(ValueError, match="images should be uint8"):
        FusedViews()(
            photos().float(),
            torch.arange(6),
            FIXRES,
            resolution=20,
            classes=4,
            generator=torch.Generator(),
        )
    with pytest.raises(ValueError, match="fills with 3 channels but the images have 1"):
        FusedViews()(
            photos()[:, :1],
            torch.arange(6),
            [Rotate(45, fill=(0.0, 0.5, 1.0))],
            resolution=20,
            classes=4,
            generator=torch.Generator(),
        )


@pytest.mark.parametrize("steps", [FIXRES, (AlternatingFlip(), Shift(2)), (Flip(), Jitter(0.1), Erase(1.0))])
def test_on_cuda_all_but_the_draws_is_made_there_and_nothing_is_waited_for(
    steps: Sequence[Any], uncompiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with pretended() as waits:
        views, after = FusedViews()(
            torch.zeros(6, 3, 24, 24, dtype=torch.uint8, device="cuda"),
            torch.zeros(6, dtype=torch.int64, device="cuda"),
            placed(steps, 6, 0),
            resolution=20,
            classes=4,
            generator=torch.Generator().manual_seed(0),
        )
        assert not waits
    assert (views.device.type, after.device.type) == ("cuda", "cuda")
    assert views.shape == (6, 3, 20, 20)


def trained(monkeypatch: pytest.MonkeyPatch, make: Any) -> tuple[Any, float, list[str]]:
    """A training with these views: its model's weights, its loss, and what it said."""
    said: list[str] = []
    monkeypatch.setattr("budgetnet.trainer.session.Display.say", lambda self, text, **_: said.append(text))
    monkeypatch.setattr("budgetnet.engine.training.fused_views", lambda *_: make)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    phase = recipe().phases[0]
    made = recipe(phases=[type(phase)(2, 16, 0.05, augment=[Rotate(20), Crop(), Flip()])])
    run = Trainer("cpu", speed="compile", out=None, show=False).fit(smallest(), data(), made)
    assert run.model is not None
    return run.model.state_dict(), run.history[-1].train_loss, said


def test_a_training_with_them_is_the_training_without(monkeypatch: pytest.MonkeyPatch) -> None:
    _, expected, _ = trained(monkeypatch, None)
    _, found, said = trained(monkeypatch, FusedViews())
    assert found == pytest.approx(expected, rel=1e-4)
    assert not any("views" in text for text in said)


def test_views_that_cannot_be_compiled_are_made_eagerly_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no compiler\nand more")

    expected, _, _ = trained(monkeypatch, None)
    found, _, said = trained(monkeypatch, broken)
    notes = [text for text in said if "views" in text]
    assert notes == ["note: the views could not be compiled and are made eagerly (no compiler)"]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [
        FIXRES,
        (AlternatingFlip(), Shift(2)),
        (Translate(0.2, fill=0.5), Grayscale(0.5), Erase(1.0), Mixup(0.4)),
        (Zoom(), Crop(), Redden(), Flip()),
    ],
    ids=["fixres", "cifar", "more", "own"],
)
def test_compiled_views_are_those_of_view(steps: Sequence[Any]) -> None:
    agree(FusedViews(), steps, 20)


@pytest.mark.slow
def test_one_compilation_serves_every_resolution_of_a_ramp() -> None:
    torch._dynamo.reset()
    make = FusedViews(sizes_open=True)
    agree(make, FIXRES, 18)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert compiled
    for resolution in (20, 22, 26):
        agree(make, FIXRES, resolution)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled


@pytest.mark.slow
def test_many_lists_are_compiled_in_one_process() -> None:
    torch._dynamo.reset()
    for fraction in range(10):
        agree(FusedViews(), [Translate(0.01 * fraction)], 12, count=2)


@pytest.mark.slow
def test_later_steps_see_the_compiled_views() -> None:
    images, labels = photos(), torch.arange(6) % 4
    made = [
        make(
            images,
            labels,
            [Crop(), RandAugment()],
            resolution=20,
            classes=4,
            generator=torch.Generator().manual_seed(0),
        )[0]
        for make in (view, FusedViews())
    ]
    # A view is rounded to 255 steps before; a few fall on the other side.
    assert ((made[0] - made[1]).abs() > 1e-5).float().mean() < 0.01


def test_steps_of_ones_own_that_say_so_are_compiled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def count(function: Any, **_: Any) -> Any:
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", count)
    make, steps = FusedViews(), [Zoom(), Redden(), Flip()]
    for _ in range(2):
        agree(make, steps, 20)
    assert compiled == ["parameters", "pixels"]
    assert [fuses(step) for step in (Zoom(), Redden(), Narrow(), Flip())] == [True, True, False, True]
    agree(make, [Narrow(), Redden()], 20)
