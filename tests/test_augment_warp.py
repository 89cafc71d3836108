"""Warps, and the one read through them, against torchvision for the same parameters and in distribution."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from budgetnet.augment import CenterCrop, Crop, Flip, Rotate, Translate, view
from budgetnet.augment import test_view as view_of_test
from budgetnet.augment.pieces import in_pieces
from budgetnet.augment.read import Fill, positions, reading
from budgetnet.augment.warp import draw_maps, rotations

BILINEAR = v2.InterpolationMode.BILINEAR


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def smooth(count: int, height: int, width: int, channels: int = 3) -> Tensor:
    """uint8 images with detail of some eight pixels, as photos have more than noise has."""
    coarse = torch.rand(count, channels, height // 8 + 1, width // 8 + 1, generator=seeded(7))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return fine.clamp(0, 1).mul(255).round().to(torch.uint8)


def floats(images: Tensor) -> Tensor:
    return v2.functional.to_dtype(images, torch.float32, scale=True)


def read(images: Tensor, maps: Sequence[Tensor], fills: Sequence[Fill], size: tuple[int, int]) -> Tensor:
    """One read of the images through these maps, first warp first."""
    stacked = torch.stack(list(maps))
    same = torch.eye(3, dtype=torch.float64).expand(len(images), 3, 3)
    moves = not torch.equal(positions(stacked)[0].abs(), same)
    return in_pieces([reading(images.shape, stacked, fills, size, images.device, moves=moves)], images)


def each(images: Tensor, function: Callable[..., Tensor], *parameters: Sequence[Any]) -> Tensor:
    return torch.stack([function(*one) for one in zip(images, *parameters)])


def same_distribution(ours: Tensor, theirs: Tensor) -> bool:
    """Two-sample Kolmogorov-Smirnov at the 0.1 % level; seeds are fixed, so this never flickers."""
    both = torch.cat([ours, theirs]).double().unique()
    below = [(values.double().sort().values) for values in (ours, theirs)]
    counts = [torch.searchsorted(values, both, right=True) / len(values) for values in below]
    limit = 1.95 * math.sqrt(1 / len(ours) + 1 / len(theirs))
    return bool((counts[0] - counts[1]).abs().max() < limit)


def test_a_rotation_is_torchvisions() -> None:
    images = smooth(7, 96, 96)
    angles = [0.0, 3.7, 45.0, 90.0, 133.3, 180.0, -61.0]
    ours = read(images, [rotations(torch.tensor(angles))], [0.0], (96, 96))
    theirs = each(floats(images), lambda image, angle: reference.rotate(image, angle, BILINEAR), angles)
    # Quarter turns are a transpose there, which reaches the outermost half pixel as a read does here.
    assert (ours - theirs).abs().max() < 1e-4


def test_a_rotation_of_an_image_that_is_not_square_is_torchvisions() -> None:
    images = smooth(3, 48, 80)
    angles = [12.0, -70.0, 200.0]
    ours = read(images, [rotations(torch.tensor(angles))], [0.0], (48, 80))
    theirs = each(floats(images), lambda image, angle: reference.rotate(image, angle, BILINEAR), angles)
    assert (ours - theirs).abs().max() < 1e-4


def test_a_translation_is_torchvisions() -> None:
    images = smooth(32, 40, 64)
    maps = Translate((0.25, 0.5)).maps(seeded(), 32, 40, 64)
    shifts = (-maps[:, :2, 2]).int().tolist()
    assert len({tuple(shift) for shift in shifts}) > 20
    theirs = each(
        floats(images), lambda image, shift: reference.affine(image, 0.0, shift, 1.0, [0.0, 0.0]), shifts
    )
    assert (read(images, [maps], [0.0], (40, 64)) - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("vertical", [False, True])
def test_a_flip_at_the_stored_size_is_exact(vertical: bool) -> None:
    images = smooth(16, 31, 31)
    maps = Flip(vertical=vertical).maps(seeded(), 16, 31, 31)
    flip = reference.vertical_flip if vertical else reference.horizontal_flip
    flipped = maps[:, int(vertical), int(vertical)] < 0
    assert 2 < flipped.sum() < 14
    theirs = torch.where(flipped[:, None, None, None], flip(floats(images)), floats(images))
    assert torch.equal(read(images, [maps], [0.0], (31, 31)), theirs)


@pytest.mark.parametrize("resolution", [20, 70, 96, 120])
def test_flips_alone_are_torchvisions_resize_flipped(resolution: int) -> None:
    images = smooth(4, 96, 96)
    steps = [Flip(1.0), Flip(1.0, vertical=True)]
    ours, _ = view(images, torch.arange(4), steps, resolution=resolution, classes=4, generator=seeded())
    theirs = reference.resize(floats(images), [resolution, resolution], antialias=True).flip(-1, -2)
    assert (ours - theirs).abs().max() < 1e-6


def test_a_crop_reads_the_box_that_torchvision_reads() -> None:
    images = smooth(64, 96, 80)
    crop = Crop((0.2, 1.0))
    maps = crop.maps(seeded(3), 64, 96, 80)
    boxes = [part.tolist() for part in crop.boxes(seeded(3), 64, 96, 80)]
    ours = read(images, [maps], [0.0], (120, 120))
    theirs = each(
        floats(images),
        lambda image, *box: reference.resized_crop(image, *box, [120, 120], BILINEAR, antialias=False),
        *boxes,
    )
    # torchvision repeats the box's outermost pixels, where one read goes on to what lies around the box.
    assert (ours - theirs).abs()[:, :, 6:-6, 6:-6].max() < 1e-4
    assert (ours - theirs).abs().mean() < 2e-3


def test_the_whole_image_magnified_keeps_its_border() -> None:
    images = smooth(3, 96, 96)
    whole = torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)
    turned = torch.cat([whole[:2], rotations(torch.tensor([30.0]))])
    ours = read(images, [turned], [0.0], (120, 120))
    theirs = reference.resize(floats(images[:2]), [120, 120], antialias=True)
    assert (ours[:2] - theirs).abs().max() < 1e-4


def test_one_read_is_close_to_torchvisions_chain() -> None:
    images = smooth(64, 96, 96)
    angles = torch.linspace(-45, 45, 64)
    crop = Crop((0.08, 1.0))
    boxes = [part.tolist() for part in crop.boxes(seeded(5), 64, 96, 96)]
    mirror = Flip().maps(seeded(6), 64, 96, 96)
    ours = read(images, [rotations(angles), crop.maps(seeded(5), 64, 96, 96), mirror], [0.0] * 3, (70, 70))

    def chain(image: Tensor, angle: float, mirrored: bool, *box: int) -> Tensor:
        image = reference.rotate(image, angle, BILINEAR)
        image = reference.resized_crop(image, *box, [70, 70], BILINEAR, antialias=True)
        return reference.horizontal_flip(image) if mirrored else image

    mirrored = (mirror[:, 0, 0] < 0).tolist()
    theirs = each(floats(images), chain, angles.tolist(), mirrored, *boxes)
    assert (ours - theirs).abs().mean() < 0.006
    assert (theirs.flip(0) - theirs).abs().mean() > 0.1


def photos(count: int, size: int) -> Tensor:
    from sklearn.datasets import load_sample_images

    pictures = [torch.tensor(picture).permute(2, 0, 1) for picture in load_sample_images().images]
    patches = []
    for index, (down, across) in enumerate(torch.rand(count, 2, generator=seeded(13)).tolist()):
        picture = pictures[index % len(pictures)]
        top, left = int(down * (picture.shape[1] - size)), int(across * (picture.shape[2] - size))
        patches.append(picture[:, top : top + size, left : left + size])
    return torch.stack(patches)


@pytest.mark.parametrize(("degrees", "said"), [(0.0, 0.0015), (45.0, 0.008)])
def test_the_difference_from_torchvision_on_photos_is_as_the_docstring_says(
    degrees: float, said: float
) -> None:
    images = photos(400, 96)
    angles = torch.linspace(-degrees, degrees, 400)[torch.randperm(400, generator=seeded(3))]
    maps = [rotations(angles), Crop().maps(seeded(5), 400, 96, 96)]
    ours = read(images, maps, [0.0, 0.0], (70, 70))

    def chain(image: Tensor, angle: float, *box: int) -> Tensor:
        image = reference.rotate(image, angle, BILINEAR)
        return reference.resized_crop(image, *box, [70, 70], BILINEAR, antialias=True)

    boxes = [part.tolist() for part in Crop().boxes(seeded(5), 400, 96, 96)]
    theirs = each(floats(images), chain, angles.tolist(), *boxes)
    assert (ours - theirs).abs().mean() < 1.05 * said
    assert (ours.mean() - theirs.mean()).abs() < 1e-3
    assert (ours.std() - theirs.std()).abs() < 0.01


def test_a_warp_sees_its_fill_outside_the_frame_it_was_given() -> None:
    """A crop turned shows corners, as in torchvision, though the stored image has pixels there."""
    images = smooth(16, 64, 64) // 2 + 100
    box = torch.eye(3, dtype=torch.float64).repeat(16, 1, 1)
    box[:, 0, 0] = box[:, 1, 1] = 0.5
    angles = torch.linspace(10, 80, 16)
    ours = read(images, [box, rotations(angles)], [0.0, 0.0], (64, 64))

    def chain(image: Tensor, angle: float) -> Tensor:
        image = reference.resized_crop(image, 16, 16, 32, 32, [64, 64], BILINEAR, antialias=True)
        return reference.rotate(image, angle, BILINEAR)

    theirs = each(floats(images), chain, angles.tolist())
    assert (ours[8:10, :, :4, :4] == 0).all()
    assert (ours - theirs).abs().mean() < 0.004


def test_the_fill_is_what_shows_outside() -> None:
    images = smooth(2, 64, 64)
    maps = rotations(torch.tensor([45.0, -45.0]))
    ours = read(images, [maps], [(0.1, 0.5, 0.9)], (64, 64))
    assert (ours[:, :, 0, 0] - torch.tensor([0.1, 0.5, 0.9])).abs().max() < 1e-6
    theirs = each(
        floats(images),
        lambda image, angle: reference.rotate(image, angle, BILINEAR, fill=[0.1, 0.5, 0.9]),
        [45.0, -45.0],
    )
    # Along the edge torchvision weighs a pixel that is already dimmed once more; elsewhere they agree.
    different = (ours - theirs).abs() > 1e-3
    assert different.float().mean() < 0.08
    assert (ours - theirs).abs().max() < 0.3
    grey = read(torch.full((2, 3, 64, 64), 51, dtype=torch.uint8), [maps], [0.2], (64, 64))
    assert (grey - 0.2).abs().max() < 1e-6


def test_a_fill_of_other_channels_than_the_images_is_refused() -> None:
    images = smooth(2, 16, 16, channels=1)
    steps = [Rotate(10, fill=(0.0, 0.0, 0.0))]
    with pytest.raises(ValueError, match="3 channels but the images have 1"):
        view(images, torch.zeros(2).long(), steps, resolution=16, classes=2, generator=seeded())


def test_large_images_are_read_on_a_finer_grid() -> None:
    """A pattern of single pixels is grey from afar; a read of every fourth pixel would see black or white."""
    board = (torch.arange(96)[:, None] + torch.arange(96)) % 2
    images = (board * 255).to(torch.uint8).expand(2, 3, 96, 96).contiguous()
    maps = rotations(torch.tensor([7.0, 30.0]))
    ours = read(images, [maps], [0.5], (24, 24))[:, :, 6:-6, 6:-6]
    assert (ours - 0.5).abs().mean() < 0.1
    photos = smooth(8, 96, 96)
    angles = torch.linspace(5, 40, 8)
    theirs = each(
        floats(photos), lambda image, angle: reference.rotate(image, angle, BILINEAR), angles.tolist()
    )
    theirs = reference.resize(theirs, [24, 24], antialias=True)
    assert (read(photos, [rotations(angles)], [0.0], (24, 24)) - theirs).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [((96, 96), (0.08, 1.0), (3 / 4, 4 / 3)), ((33, 60), (0.5, 1.0), (0.5, 2.0))],
)
def test_crops_are_drawn_as_torchvision_draws_them(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    count = 3000
    top, left, height, width = Crop(scale, ratio).boxes(seeded(1), count, *size)
    torch.manual_seed(2)
    transform, image = v2.RandomResizedCrop(8, scale, ratio), torch.zeros(3, *size)
    drawn = [transform.make_params([image]) for _ in range(count)]
    theirs = {name: torch.tensor([one[name] for one in drawn]) for name in drawn[0]}
    for name, ours in {"top": top, "left": left, "height": height, "width": width}.items():
        assert same_distribution(ours, theirs[name]), name
    assert same_distribution(height * width, theirs["height"] * theirs["width"])
    assert same_distribution(width / height, theirs["width"] / theirs["height"])


@pytest.mark.parametrize("size", [(20, 96), (96, 20), (32, 32)])
def test_a_crop_that_never_fits_falls_back_to_torchvisions_centre(size: tuple[int, int]) -> None:
    step = Crop((1.0, 1.0), (0.9, 1.1) if size != (32, 32) else (1.2, 1.3))
    ours = [part.tolist() for part in step.boxes(seeded(), 40, *size)]
    transform = v2.RandomResizedCrop(8, step.scale, step.ratio)
    torch.manual_seed(0)
    box = transform.make_params([torch.zeros(3, *size)])
    assert ours == [[box[name]] * 40 for name in ("top", "left", "height", "width")]


def test_angles_and_shifts_are_drawn_as_torchvision_draws_them() -> None:
    count = 3000
    torch.manual_seed(0)
    image = [torch.zeros(3, 40, 96)]
    maps = Rotate((-20, 45)).maps(seeded(), count, 40, 96)
    ours = torch.atan2(maps[:, 1, 0], maps[:, 0, 0]).rad2deg()
    rotation = v2.RandomRotation((-20, 45))
    assert same_distribution(ours, torch.tensor([rotation.make_params(image)["angle"] for _ in range(count)]))
    shifts = -Translate(0.1).maps(seeded(), count, 40, 96)[:, :2, 2]
    affine = v2.RandomAffine(0, translate=(0.1, 0.1))
    theirs = torch.tensor([affine.make_params(image)["translate"] for _ in range(count)])
    assert torch.equal(shifts, shifts.round())
    assert all(same_distribution(shifts[:, axis], theirs[:, axis]) for axis in (0, 1))


def central(images: Tensor, resolution: int, part: float = 7 / 8) -> Tensor:
    labels = torch.zeros(len(images), dtype=torch.int64)
    steps = [CenterCrop(part)]
    seen, _ = view(images, labels, steps, resolution=resolution, classes=2, generator=seeded())
    return seen


@pytest.mark.parametrize("size", [(96, 96), (64, 96), (96, 48)])
@pytest.mark.parametrize("resolution", [98, 112, 126, 224])
def test_a_magnified_centre_crop_is_the_tests_transform(resolution: int, size: tuple[int, int]) -> None:
    images = smooth(6, *size)
    resize = int(256 / 224 * resolution)
    expected = view_of_test(images, resize=resize, crop=resolution)
    assert (central(images, resolution) - expected).abs().max() < 1e-4
    if size == (96, 96):
        resized = reference.resize(floats(images), [resize], antialias=True)
        theirs = reference.center_crop(resized, [resolution, resolution])
        assert (central(images, resolution) - theirs).abs().max() < 1e-4
    assert (central(images, resolution, 1.0) - expected).abs().mean() > 0.01


@pytest.mark.parametrize(("resolution", "said"), [(112, 0.000001), (120, 0.016), (70, 0.0042), (42, 0.010)])
def test_a_centre_crop_is_as_far_from_the_tests_transform_as_its_docstring_says(
    resolution: int, said: float
) -> None:
    images = photos(400, 96)
    expected = view_of_test(images, resize=int(256 / 224 * resolution), crop=resolution)
    difference = (central(images, resolution) - expected).abs().mean()
    assert difference < 1.05 * said
    assert said < 0.00001 or difference > 0.9 * said


def test_a_centre_crop_draws_nothing_and_joins_the_other_warps() -> None:
    generator = seeded()
    before = generator.get_state()
    maps = CenterCrop(0.5).maps(generator, 5, 40, 60)
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(maps[0], torch.diag(torch.tensor([20 / 60, 20 / 40, 1.0], dtype=torch.float64)))
    assert (maps == maps[0]).all()
    images = smooth(8, 96, 96)
    steps = [CenterCrop(), Flip(1.0)]
    seen, _ = view(images, torch.arange(8), steps, resolution=112, classes=8, generator=seeded())
    assert (seen.flip(-1) - view_of_test(images, resize=128, crop=112)).abs().max() < 1e-4


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_flips_happen_as_often_as_asked(p: float) -> None:
    flipped = Flip(p).maps(seeded(), 4000, 8, 8)[:, 0, 0] < 0
    assert abs(flipped.float().mean() - p) < 0.03


def test_images_of_a_batch_are_warped_differently() -> None:
    for step in (Rotate(45), Crop(), Translate(0.4)):
        assert len(step.maps(seeded(), 50, 96, 96).unique(dim=0)) > 25, step


class Zoom:
    def maps(self, generator: Generator, count: int, height: int, width: int) -> Tensor:
        maps = torch.eye(3).repeat(count, 1, 1)
        maps[:, :2] *= 0.5 + 0.5 * torch.rand(count, 1, 1, generator=generator)
        return maps


class Fixed:
    def __init__(self, maps: Tensor) -> None:
        self.answer = maps

    def __repr__(self) -> str:
        return "Fixed()"

    def maps(self, generator: Generator, count: int, height: int, width: int) -> Tensor:
        return self.answer


def test_a_users_own_warp_joins_the_read() -> None:
    images = smooth(4, 64, 64)
    factors = draw_maps([Zoom()], seeded(), 4, 64, 64)[0, :, 0, 0]
    ours, _ = view(images, torch.arange(4), [Zoom()], resolution=64, classes=4, generator=seeded())
    theirs = each(
        floats(images),
        lambda image, factor: reference.affine(image, 0.0, [0, 0], float(1 / factor), [0.0, 0.0], BILINEAR),
        factors,
    )
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        (torch.eye(3), r"shape \(2, 3, 3\), not torch.float32 \(3, 3\)"),
        (torch.eye(3).long().repeat(2, 1, 1), "floating tensor"),
        (torch.ones(2, 3, 3), "affine"),
    ],
)
def test_maps_that_are_none_are_refused_by_the_name_of_the_step(maps: Tensor, said: str) -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match=said) as refusal:
        view(images, torch.arange(2), [Fixed(maps)], resolution=8, classes=2, generator=seeded())
    assert "Fixed()" in str(refusal.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rotate(-1),
        lambda: Rotate((30, 10)),
        lambda: Rotate(True),
        lambda: Rotate(10, fill=1.5),
        lambda: Rotate(10, fill=(0.1, 0.2)),
        lambda: CenterCrop(0),
        lambda: CenterCrop(1.1),
        lambda: CenterCrop(True),
        lambda: CenterCrop("224"),  # type: ignore[arg-type]
        lambda: Crop((0.5, 0.1)),
        lambda: Crop((0.5, 1.1)),
        lambda: Crop((0.0, 0.0)),
        lambda: Crop(0.5),  # type: ignore[arg-type]
        lambda: Crop(ratio=(0.0, 1.0)),
        lambda: Flip(1.2),
        lambda: Flip(float("nan")),
        lambda: Flip(vertical=1),  # type: ignore[arg-type]
        lambda: Translate(2),
        lambda: Translate((0.1, 0.2, 0.3)),  # type: ignore[arg-type]
    ],
)
def test_impossible_parameters_are_refused_in_one_sentence(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*(Rotate|Crop|Flip|Translate)[^\n]*not [^\n]*$"):
        make()


@pytest.mark.parametrize(
    "step",
    [
        Rotate(45),
        Rotate((-10, 20), fill=(0.1, 0.2, 0.3)),
        Crop([0.1, 1.0]),
        Flip(0.3, True),
        Translate((0.1, 0.2)),
    ],
)
def test_a_step_is_its_own_repr(step: object) -> None:
    assert eval(repr(step)) == step
    assert hash(eval(repr(step))) == hash(step)
