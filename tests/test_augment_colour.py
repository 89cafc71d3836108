"""Colour steps against torchvision: for the same parameters, in distribution, and how far they differ."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from budgetnet.augment import Flip, Grayscale, Jitter, view
from budgetnet.augment.colour import combine, jitter_matrices, recolour, turn_hue

ADJUST = (
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
)


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, channels: int = 3, low: float = 0.0, high: float = 1.0) -> Tensor:
    """float images whose channels differ in their means."""
    values = torch.rand(count, channels, 20, 17, generator=seeded(11))
    tints = torch.rand(count, channels, 1, 1, generator=seeded(12))
    return low + (high - low) * (values + tints) / 2


def photos(count: int, size: int = 64) -> Tensor:
    """float patches (count, 3, size, size) of two photographs that scikit-learn carries."""
    from sklearn.datasets import load_sample_images

    pictures = [torch.tensor(picture).permute(2, 0, 1) for picture in load_sample_images().images]
    places = torch.rand(count, 2, generator=seeded(13)).tolist()
    patches = []
    for index, (down, across) in enumerate(places):
        picture = pictures[index % len(pictures)]
        top, left = int(down * (picture.shape[1] - size)), int(across * (picture.shape[2] - size))
        patches.append(picture[:, top : top + size, left : left + size])
    return torch.stack(patches).float() / 255


def chain(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """What torchvision's ColorJitter does with these parameters."""
    results = []
    for image, own, turns in zip(images, factors.tolist(), order.tolist()):
        for place in turns:
            image = ADJUST[place](image, own[place])
        results.append(image)
    return torch.stack(results)


def jitter(step: Jitter, images: Tensor, seed: int = 0) -> Tensor:
    count, channels = images.shape[:2]
    if step.exact_hue:
        labels = torch.zeros(count, dtype=torch.long)
        return step.act(images, labels, classes=1, generator=seeded(seed))[0]
    return recolour(images, combine([step], seeded(seed), count, channels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_each_linear_adjustment_alone_is_torchvisions(place: int, channels: int) -> None:
    images = noise(30, channels)
    factors = torch.ones(30, 4, dtype=torch.float64)
    factors[:, 3] = 0
    factors[:, place] = torch.linspace(0, 2, 30)
    order = torch.arange(4).repeat(30, 1)
    used = torch.ones(30, 4, dtype=torch.bool)
    ours = recolour(images, jitter_matrices(factors, order, channels, used))
    theirs = torch.stack([ADJUST[place](image, float(own[place])) for image, own in zip(images, factors)])
    assert (ours - theirs).abs().max() < 1e-5
    assert (place == 2 and channels == 1) or (ours - images).abs().max() > 0.1


def test_every_order_is_torchvisions_as_long_as_nothing_is_clamped() -> None:
    images = noise(240, low=0.45, high=0.55)
    factors, order = Jitter(0.2, 0.3, (0.2, 1.2)).factors(seeded(), 240)
    # At a third of a turn hue is the same in both, and does not commute with saturation.
    factors[:, 3] = 1 / 3
    assert len(order.unique(dim=0)) == 24
    theirs = chain(images, factors, order)
    assert theirs.min() > 0
    assert theirs.max() < 1
    used = torch.ones(240, 4, dtype=torch.bool)
    assert (recolour(images, jitter_matrices(factors, order, 3, used)) - theirs).abs().max() < 1e-5
    shuffled = chain(images, factors, order.roll(1, 1))
    assert (shuffled - theirs).abs().max() > 1e-3


def test_the_exact_hue_is_torchvisions() -> None:
    images = torch.cat([noise(60), noise(60).round(), noise(60, 1).expand(-1, 3, -1, -1)])
    turns = torch.linspace(-0.5, 0.5, 180)
    theirs = torch.stack([reference.adjust_hue(image, turn) for image, turn in zip(images, turns.tolist())])
    assert (turn_hue(images, turns) - theirs).abs().max() < 1e-5


def test_a_third_of_a_turn_is_torchvisions_in_the_matrix_too() -> None:
    images = noise(2)
    factors = torch.tensor([[1, 1, 1, 1 / 3], [1, 1, 1, -1 / 3]], dtype=torch.float64)
    matrices = jitter_matrices(factors, torch.arange(4).repeat(2, 1), 3, torch.ones(2, 4, dtype=torch.bool))
    theirs = torch.stack([reference.adjust_hue(image, turn) for image, turn in zip(images, (1 / 3, -1 / 3))])
    assert (recolour(images, matrices) - theirs).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("step", "mean", "median"),
    [
        (Jitter(0.3, 0.3, 0.3), 0.00095, 1e-5),
        (Jitter(0.3, 0.3, 0.3, 0.3), 0.0235, 0.0115),
        (Jitter(0.4, 0.4, 0.4, 0.1), 0.016, 0.007),
        (Jitter(0.3, 0.3, 0.3, 0.3, exact_hue=True), 0.0008, 1e-5),
    ],
)
def test_the_difference_from_torchvision_on_photos_is_as_the_docstring_says(
    step: Jitter, mean: float, median: float
) -> None:
    images = photos(400)
    factors, order = step.factors(seeded(), 400)
    theirs = chain(images, factors, order)
    difference = (jitter(step, images) - theirs).abs()
    assert difference.mean() < mean
    assert difference.median() < median
    ours = jitter(step, images)
    assert (ours.mean(dim=(0, 2, 3)) - theirs.mean(dim=(0, 2, 3))).abs().max() < 0.01
    assert (ours.std(dim=(0, 2, 3)) - theirs.std(dim=(0, 2, 3))).abs().max() < 0.01
    assert (theirs - images).abs().mean() > 4 * difference.mean()


@pytest.mark.parametrize("exact_hue", [False, True])
def test_images_of_one_channel_know_no_saturation_and_no_hue(exact_hue: bool) -> None:
    images = noise(20, 1)
    assert torch.allclose(jitter(Jitter(0, 0, 0.9, 0.5, exact_hue), images), images, atol=1e-6)
    ours = jitter(Jitter(0.3, 0.3, 0.9, 0.5, exact_hue), images)
    factors, order = Jitter(0.3, 0.3, 0.9, 0.5).factors(seeded(), 20)
    assert (ours - chain(images, factors, order)).abs().mean() < 0.005


def test_factors_and_orders_are_drawn_as_torchvision_draws_them() -> None:
    count = 3000
    values = (0.4, (0.2, 1.5), 2.0, 0.25)
    factors, order = Jitter(*values).factors(seeded(), count)
    torch.manual_seed(0)
    transform = v2.ColorJitter(*values)
    drawn = [transform.make_params([]) for _ in range(count)]
    limit = 1.95 * math.sqrt(2 / count)
    for column, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        theirs = torch.tensor([one[f"{name}_factor"] for one in drawn]).sort().values
        ours = factors[:, column].float().sort().values
        both = torch.cat([ours, theirs])
        shares = [torch.searchsorted(part, both, right=True) / count for part in (ours, theirs)]
        assert (shares[0] - shares[1]).abs().max() < limit, name
    orders = order.unique(dim=0, return_counts=True)[1]
    assert len(orders) == 24
    assert ((orders - count / 24) ** 2 / (count / 24)).sum() < 50


def test_flips_after_a_colour_step_are_flips_before_it() -> None:
    images = (noise(8) * 255).to(torch.uint8)
    steps = [Jitter(0.3, 0.3, 0.3, 0.3), Flip(), Flip(vertical=True)]
    labels = torch.zeros(8, dtype=torch.long)
    after, _ = view(images, labels, steps, resolution=17, classes=1, generator=seeded())
    before, _ = view(images, labels, steps[1:] + steps[:1], resolution=17, classes=1, generator=seeded())
    assert torch.equal(after, before)


def test_grayscale_is_torchvisions_and_as_frequent_as_asked() -> None:
    images = noise(2000)[:, :, :4, :4]
    ours = recolour(images, combine([Grayscale(0.3)], seeded(), 2000, 3))
    grey = reference.rgb_to_grayscale(images, num_output_channels=3)
    changed = (ours - images).abs().amax(dim=(1, 2, 3)) > 1e-6
    assert abs(changed.float().mean() - 0.3) < 0.04
    assert (ours - grey)[changed].abs().max() < 1e-6
    assert torch.equal(recolour(noise(3, 1), combine([Grayscale(1.0)], seeded(), 3, 1)), noise(3, 1))


class Redden:
    def matrices(self, generator: Generator, count: int, channels: int) -> Tensor:
        matrices = torch.eye(channels, channels + 1).repeat(count, 1, 1)
        matrices[:, 0, -1] = 0.1 * torch.rand(count, generator=generator)
        return matrices


def test_a_users_own_colour_step_is_multiplied_into_the_one_matrix() -> None:
    images = noise(16, low=0.3, high=0.6)
    generator = seeded(4)
    after = images
    for step in (Redden(), Jitter(0.2, 0.2, 0.2), Redden()):
        after = recolour(after, combine([step], generator, 16, 3))
    assert after.min() > 0
    assert after.max() < 1
    together = combine([Redden(), Jitter(0.2, 0.2, 0.2), Redden()], seeded(4), 16, 3)
    assert (recolour(images, together) - after).abs().max() < 1e-5
    assert len(combine([Redden()], seeded(), 16, 3).unique(dim=0)) == 16


class Wrong:
    def matrices(self, generator: Generator, count: int, channels: int) -> Tensor:
        return torch.eye(channels)


def test_matrices_of_a_wrong_shape_are_refused_by_the_name_of_the_step() -> None:
    with pytest.raises(ValueError, match=r"Wrong.*\(2, 3, 4\) or \(2, 3, 7\), not torch.float32 \(3, 3\)"):
        combine([Wrong()], seeded(), 2, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Jitter(-0.1),
        lambda: Jitter((1.2, 0.8)),
        lambda: Jitter(hue=0.6),
        lambda: Jitter(hue=(-0.6, 0.0)),
        lambda: Jitter("0.3"),  # type: ignore[arg-type]
        lambda: Jitter(exact_hue=1),  # type: ignore[arg-type]
        lambda: Grayscale(2),
    ],
)
def test_impossible_parameters_are_refused_in_one_sentence(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*(Jitter|Grayscale)[^\n]*not [^\n]*$"):
        make()


def test_a_step_is_its_own_repr() -> None:
    for step in (Jitter(0.3, [0.5, 1.5], 0, 0.1, True), Grayscale()):
        assert eval(repr(step)) == step
        assert hash(step) == hash(eval(repr(step)))
