"""RandAugment and TrivialAugmentWide against torchvision, bit for bit where an operation recolours."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms import v2

from budgetnet.augment import RandAugment, TrivialAugmentWide, view
from budgetnet.augment.auto import OPERATIONS, SIGNED, WARPS, apply

Auto = RandAugment | TrivialAugmentWide
STEPS = [
    (RandAugment(), v2.RandAugment()),
    (RandAugment(3, 19, 31), v2.RandAugment(3, 19, 31)),
    (RandAugment(1, 4, 10), v2.RandAugment(1, 4, 10)),
    (TrivialAugmentWide(), v2.TrivialAugmentWide()),
    (TrivialAugmentWide(16), v2.TrivialAugmentWide(16)),
]


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, channels: int = 3, height: int = 40, width: int = 52) -> Tensor:
    """uint8 images: noise, dim noise, waves and a single colour, in turns."""
    generator = seeded(count)
    images = torch.randint(0, 256, (count, channels, height, width), generator=generator)
    wave = torch.linspace(0, 20, width).sin() * torch.linspace(0, 9, height).cos()[:, None]
    images[1::4] = images[1::4] // 3 + 60
    images[2::4] = (120 + 100 * wave + images[2::4] % 9).long()
    images[3::8] = images[3::8, :, :1, :1]
    return images.to(torch.uint8)


def theirs(transform: v2.Transform, image: Tensor, name: str, magnitude: float) -> Tensor:
    interpolation = v2.InterpolationMode(transform.interpolation)
    return transform._apply_image_or_video_transform(image, name, magnitude, interpolation, transform._fill)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("ours", "transform"), STEPS[:1] + STEPS[3:4])
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in WARPS])
def test_an_operation_that_recolours_is_torchvisions_bit_for_bit(
    name: str, ours: Auto, transform: v2.Transform, channels: int
) -> None:
    images = pictures(124, channels)
    table = transform._AUGMENTATION_SPACE[name][0](31, *images.shape[-2:])
    magnitudes = torch.zeros(124) if table is None else table.repeat(4)
    magnitudes = magnitudes.double()
    if name in SIGNED:
        magnitudes[::3] *= -1
    expected = [theirs(transform, image, name, float(own)) for image, own in zip(images, magnitudes)]
    assert torch.equal(apply(ours, images, [name] * 124, magnitudes), torch.stack(expected))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("fill", [0.0, (0.2, 0.4, 1.0)])
@pytest.mark.parametrize("name", WARPS)
def test_an_operation_that_moves_is_torchvisions(
    name: str, interpolation: str, fill: float | tuple[float, ...]
) -> None:
    images = pictures(62)
    step = TrivialAugmentWide(31, interpolation, fill)
    painted = None if fill == 0 else [255 * one for one in fill]  # type: ignore[union-attr]
    transform = v2.TrivialAugmentWide(31, v2.InterpolationMode(interpolation), painted)
    table = transform._AUGMENTATION_SPACE[name][0](31, *images.shape[-2:]).double()
    magnitudes = torch.cat([table, -table])
    ours = apply(step, images, [name] * 62, magnitudes)
    expected = [theirs(transform, image, name, float(own)) for image, own in zip(images, magnitudes)]
    difference = (ours.int() - torch.stack(expected).int()).abs()
    # Ties between two pixels may fall either way, as may the last bit before rounding.
    assert (difference > (0 if interpolation == "nearest" else 1)).float().mean() < 0.004


@pytest.mark.parametrize(("ours", "transform"), STEPS)
def test_magnitudes_and_signs_are_torchvisions(ours: Auto, transform: v2.Transform) -> None:
    names, magnitudes = ours.draw(seeded(), 20_000, 40, 52)
    space = transform._AUGMENTATION_SPACE
    assert set(names) == set(space)
    for name, (table, signed) in space.items():
        drawn = magnitudes[torch.tensor([other == name for other in names])]
        assert abs(len(drawn) / 20_000 - 1 / 14) < 0.012
        values = table(ours.bins, 40, 52)
        if values is None:
            assert (drawn == 0).all()
            continue
        values = (
            values.double() if isinstance(ours, TrivialAugmentWide) else values.double()[[ours.magnitude]]
        )
        assert torch.equal(drawn.abs().unique(), values.unique()), name
        negative = (drawn < 0).double().sum() / (drawn != 0).sum().clamp(min=1)
        assert negative == 0 if not signed else abs(negative - 0.5) < 0.1, name


def test_each_image_gets_operations_of_its_own() -> None:
    names, _ = RandAugment().draw(seeded(), 64, 32, 32)
    assert len(set(names)) > 8
    image = pictures(4)[2]
    images = image.expand(64, *image.shape).contiguous()
    labels = torch.zeros(64, dtype=torch.long)
    views, after = RandAugment().act(images.float() / 255, labels, classes=1, generator=seeded())
    assert len(views.flatten(1).unique(dim=0)) > 20
    assert after is labels


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("ours", "transform"), STEPS)
def test_the_whole_step_is_torchvisions_with_the_same_draws(
    ours: Auto, transform: v2.Transform, channels: int
) -> None:
    images = pictures(60, channels, 32, 32)
    labels = torch.zeros(60, dtype=torch.long)
    views, _ = ours.act(images.float() / 255, labels, classes=1, generator=seeded(3))
    generator, expected = seeded(3), list(images)
    for _ in range(ours.operations if isinstance(ours, RandAugment) else 1):
        names, magnitudes = ours.draw(generator, 60, 32, 32)
        drawn = zip(expected, names, magnitudes.tolist())
        expected = [theirs(transform, image, name, own) for image, name, own in drawn]
    steps_apart = (views * 255 - torch.stack(expected)).abs()
    assert (steps_apart > 1e-3).float().mean() < 0.002
    assert (steps_apart.amax(dim=(1, 2, 3)) < 1e-3).float().mean() > 0.8


def test_no_operations_leave_whole_numbers_as_they_are() -> None:
    images = pictures(8, 3, 24, 24)
    views, _ = view(images, torch.arange(8), [RandAugment(0)], resolution=24, classes=8, generator=seeded())
    assert torch.equal((views * 255).round().to(torch.uint8), images)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 3)])
def test_tiny_images_survive_every_operation(size: tuple[int, int]) -> None:
    images = pictures(28, 3, *size)
    magnitudes = torch.full((28,), 0.3, dtype=torch.float64)
    names = list(OPERATIONS) * 2
    magnitudes[[name == "Posterize" for name in names]] = 5
    ours = apply(RandAugment(), images, names, magnitudes)
    recoloured = [index for index, name in enumerate(names) if name not in WARPS]
    for index in recoloured:
        expected = theirs(v2.RandAugment(), images[index], names[index], float(magnitudes[index]))
        assert torch.equal(ours[index], expected), names[index]


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandAugment(-1),
        lambda: RandAugment(2, 31),
        lambda: RandAugment(2.0),  # type: ignore[arg-type]
        lambda: RandAugment(bins=1),
        lambda: RandAugment(interpolation="bicubic"),
        lambda: TrivialAugmentWide(0),
        lambda: TrivialAugmentWide(fill=255),
    ],
)
def test_impossible_parameters_are_refused_in_one_sentence(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*(RandAugment|TrivialAugmentWide)[^\n]*not [^\n]*$"):
        make()


def test_a_step_is_its_own_repr() -> None:
    for step in (RandAugment(1, 3, 10, "bilinear", 0.5), TrivialAugmentWide(fill=[0.1, 0.2, 0.3])):
        assert eval(repr(step)) == step
        assert hash(step) == hash(eval(repr(step)))
