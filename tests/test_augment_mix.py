"""Mixup, cutmix and erasing: what becomes of pixels and labels, and how parameters are distributed."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms import v2

from budgetnet.augment import Cutmix, Erase, Mixup, view
from budgetnet.augment.mix import shares

WHOLE = 200


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def plain(count: int, size: int = 24) -> Tensor:
    """uint8 images, each of one grey of its own: what share of which image a pixel holds can be read off."""
    greys = torch.linspace(0, 250, count).round().to(torch.uint8)
    return greys[:, None, None, None].expand(count, 3, size, size).contiguous()


def act(step: Mixup | Cutmix | Erase, images: Tensor, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    labels = torch.arange(len(images)) % classes
    return step.act(images, labels, classes=classes, generator=seeded(seed))


def same_distribution(ours: Tensor, theirs: Tensor) -> bool:
    both = torch.cat([ours, theirs]).double().unique()
    below = [values.double().sort().values for values in (ours, theirs)]
    counts = [torch.searchsorted(values, both, right=True) / len(values) for values in below]
    limit = 1.95 * math.sqrt(1 / len(ours) + 1 / len(theirs))
    return bool((counts[0] - counts[1]).abs().max() < limit)


@pytest.mark.parametrize(
    "steps",
    [[Mixup(0.4)], [Cutmix(1.0)], [Mixup(1.0), Cutmix(1.0)], [Cutmix(1.0, p=0.5), Mixup(0.2), Mixup(0.2)]],
)
def test_labels_say_what_share_of_each_image_the_pixels_hold(steps: list[Mixup | Cutmix]) -> None:
    images = plain(16)
    views, labels = view(images, torch.arange(16), steps, resolution=24, classes=16, generator=seeded())
    assert labels.shape == (16, 16)
    assert labels.dtype == torch.float32
    assert (labels.sum(dim=1) - 1).abs().max() < 1e-6
    assert labels.min() >= 0
    held = labels @ (images[:, 0, 0, 0].float() / 255)
    assert (views.mean(dim=(1, 2, 3)) - held).abs().max() < 1e-5
    assert (labels.max(dim=1).values < 0.999).sum() > 4


def test_mixup_blends_with_the_image_before_by_a_share_of_its_own() -> None:
    images = torch.rand(12, 3, 10, 10, generator=seeded(1))
    views, labels = act(Mixup(1.0), images, classes=12)
    share = labels.diagonal()
    expected = share[:, None, None, None] * images + (1 - share)[:, None, None, None] * images.roll(1, 0)
    assert (views - expected).abs().max() < 1e-6
    assert len(share.unique()) == 12


def test_cutmix_pastes_one_box_of_the_image_before() -> None:
    images = torch.rand(40, 3, 20, 30, generator=seeded(1))
    views, labels = act(Cutmix(1.0), images, classes=40)
    own, other = views == images, views == images.roll(1, 0)
    assert (own | other).all()
    pasted = (~own).any(dim=1)
    areas = pasted.sum(dim=(1, 2))
    boxes = pasted.any(dim=1).sum(dim=1) * pasted.any(dim=2).sum(dim=1)
    assert torch.equal(areas, boxes)
    assert (1 - labels.diagonal() - areas / 600).abs().max() < 1e-6
    assert len(areas.unique()) > 20


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    torch.manual_seed(0)
    theirs = torch.distributions.Beta(alpha, alpha).sample((4000,))
    assert same_distribution(shares(alpha, 1.0, 4000, seeded()), theirs)


def test_a_tiny_alpha_mixes_next_to_nothing_and_stays_finite() -> None:
    kept = shares(1e-4, 1.0, 2000, seeded())
    assert kept.isfinite().all()
    assert ((kept < 1e-6) | (kept > 1 - 1e-6)).float().mean() > 0.98


def test_cutmix_boxes_are_distributed_as_torchvisions() -> None:
    count = 3000
    top, left, bottom, right = Cutmix(1.0).boxes(seeded(), count, 32, 48)
    torch.manual_seed(1)
    transform, image = v2.CutMix(num_classes=2), torch.zeros(2, 3, 32, 48)
    theirs = torch.tensor([transform.make_params([image])["box"] for _ in range(count)])
    for ours, column in ((left, 0), (top, 1), (right, 2), (bottom, 3)):
        assert same_distribution(ours, theirs[:, column])
    areas = (theirs[:, 2] - theirs[:, 0]) * (theirs[:, 3] - theirs[:, 1])
    assert same_distribution((bottom - top) * (right - left), areas)


@pytest.mark.parametrize("make", [Mixup, Cutmix])
def test_as_many_images_are_mixed_as_asked(make: type[Mixup] | type[Cutmix]) -> None:
    images = torch.rand(1000, 1, 16, 16, generator=seeded())
    never, labels = act(make(1.0, p=0.0), images, classes=3)
    assert torch.equal(never, images)
    assert torch.equal(labels, torch.nn.functional.one_hot(torch.arange(1000) % 3, 3).float())
    half, _ = act(make(50.0, p=0.5), images, classes=3)
    assert abs((half != images).flatten(1).any(dim=1).float().mean() - 0.5) < 0.05


def test_soft_labels_are_welcome() -> None:
    images = torch.rand(4, 3, 8, 8)
    soft = torch.softmax(torch.randn(4, 5, generator=seeded()), dim=1)
    _, labels = Mixup(1.0).act(images, soft, classes=5, generator=seeded())
    assert (labels.sum(dim=1) - 1).abs().max() < 1e-6
    # A teacher's and the given ones, beside each other, are mixed alike.
    both = torch.stack((soft, soft.flip(1)), dim=1)
    for step in (Mixup(1.0), Cutmix(1.0)):
        found = [
            step.act(images, each, classes=5, generator=seeded())[1] for each in (both, soft, soft.flip(1))
        ]
        assert torch.equal(found[0], torch.stack(found[1:], dim=1))


def test_an_image_alone_in_its_batch_is_mixed_with_itself() -> None:
    images = torch.rand(1, 3, 8, 8)
    for step in (Mixup(1.0), Cutmix(1.0)):
        views, labels = step.act(images, torch.tensor([2]), classes=4, generator=seeded())
        assert torch.allclose(views, images)
        assert torch.equal(labels, torch.tensor([[0.0, 0.0, 1.0, 0.0]]))


@pytest.mark.parametrize("ratio", [(0.3, 3.3), (1.0, 3.0)])
def test_erased_boxes_are_distributed_as_torchvisions(ratio: tuple[float, float]) -> None:
    count = 3000
    step = Erase(1.0, (0.02, 0.6), ratio)
    top, left, bottom, right = step.boxes(seeded(), count, 30, 64)
    torch.manual_seed(1)
    transform, image = v2.RandomErasing(1.0, (0.02, 0.6), ratio), torch.zeros(3, 30, 64)
    drawn = [transform.make_params([image]) for _ in range(count)]
    drawn = [one for one in drawn if one["v"] is not None]
    found = bottom > top
    assert abs(int(found.sum()) - len(drawn)) < 60
    pairs = {"i": top, "j": left, "h": bottom - top, "w": right - left}
    for name, ours in pairs.items():
        assert same_distribution(ours[found], torch.tensor([one[name] for one in drawn])), name


@pytest.mark.parametrize(("value", "paint"), [(0.5, [0.5, 0.5, 0.5]), ((0.1, 0.2, 0.3), [0.1, 0.2, 0.3])])
def test_erasing_paints_one_box_and_nothing_else(
    value: float | tuple[float, ...], paint: list[float]
) -> None:
    images = torch.rand(WHOLE, 3, 20, 20, generator=seeded(1))
    step = Erase(0.7, value=value)
    views, labels = act(step, images, classes=10)
    assert torch.equal(labels, torch.arange(WHOLE) % 10)
    changed = (views != images).any(dim=1)
    boxes = changed.any(dim=1).sum(dim=1) * changed.any(dim=2).sum(dim=1)
    assert torch.equal(changed.sum(dim=(1, 2)), boxes)
    assert abs((boxes > 0).float().mean() - 0.7) < 0.1
    painted = views.permute(0, 2, 3, 1)[changed]
    assert (painted - torch.tensor(paint)).abs().max() < 1e-6


def test_noise_differs_from_pixel_to_pixel_and_stays_a_brightness() -> None:
    images = torch.zeros(60, 3, 32, 32)
    views, _ = act(Erase(1.0, scale=(0.2, 0.3), value="noise"), images, classes=1)
    painted = views[views != 0]
    assert painted.min() >= 0
    assert painted.max() <= 1
    assert abs(painted.mean() - 0.5) < 0.02
    assert abs(painted.std() - 0.24) < 0.02


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mixup(0),
        lambda: Mixup(-1.0),
        lambda: Mixup(float("inf")),
        lambda: Cutmix(1.0, p=1.5),
        lambda: Erase(-0.1),
        lambda: Erase(scale=(0.5, 0.2)),
        lambda: Erase(ratio=(0, 1)),
        lambda: Erase(value="random"),
        lambda: Erase(value=255),
    ],
)
def test_impossible_parameters_are_refused_in_one_sentence(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*(Mixup|Cutmix|Erase)[^\n]*not [^\n]*$"):
        make()


def test_a_step_is_its_own_repr() -> None:
    for step in (
        Mixup(0.2),
        Cutmix(1, 0.5),
        Erase(value="noise"),
        Erase(0.1, [0.1, 0.2], value=[0.1, 0.2, 0.3]),
    ):
        assert eval(repr(step)) == step
        assert hash(step) == hash(eval(repr(step)))
