"""Times the augmentation of fixres_stl10 against other libraries', in images a second of CPU time.

    python benchmarks/views.py [--rounds 9] [--write]          # pip install budgetnet[peers] for all of them
    python benchmarks/views.py --difference [--write]          # how far its views are from torchvision's

Rotation, random resized crop, colour jitter with hue, both flips, drawn for each image: stored at 96 pixels,
to 70 and to 120. In turn, batch after batch: the pipeline of the original project (PNG files, PIL,
torchvision's transforms, an ImageFolder), torchvision's v2 transforms on tensors, image by image, kornia and
albumentations where they are installed, and `view`. Medians over rounds.

The difference compares how what is seen is distributed: the 1-Wasserstein distance between as many views of
the same images, in units of torchvision's standard deviation, beside that of torchvision's own to others of
its own.
"""

import contextlib
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from report import arguments, machine, publish
from torch import Tensor

from budgetnet.augment import Crop, Flip, Jitter, RandAugment, Rotate, Step, TrivialAugmentWide, view

Views = Callable[[], object]
STORED, JITTER = 96, 0.3
RECIPE: list[Step] = [
    Rotate(45),
    Crop((0.08, 1.0)),
    Jitter(JITTER, JITTER, JITTER, JITTER),
    Flip(),
    Flip(vertical=True),
]
EXACT: list[Step] = [*RECIPE[:2], Jitter(JITTER, JITTER, JITTER, JITTER, exact_hue=True), *RECIPE[3:]]
OTHERS: dict[str, list[Step]] = {
    "Crop, Flip": [Crop((0.08, 1.0)), Flip()],
    "Crop, RandAugment": [Crop((0.08, 1.0)), RandAugment()],
    "Crop, TrivialAugmentWide": [Crop((0.08, 1.0)), TrivialAugmentWide()],
}


def photos(count: int) -> Tensor:
    """Noise with the spectrum of photographs, uint8 (count, 3, 96, 96)."""
    generator = torch.Generator().manual_seed(0)
    frequency = torch.fft.fftfreq(STORED)
    radius = (frequency[:, None] ** 2 + frequency[None, :] ** 2).sqrt()
    radius[0, 0] = 1 / STORED
    noise = torch.randn(count, 3, STORED, STORED, generator=generator)
    noise[:, 1:] = 0.6 * noise[:, :1] + 0.8 * noise[:, 1:]
    waves = torch.fft.ifft2(torch.fft.fft2(noise) / radius).real
    waves = (waves - waves.mean(dim=(2, 3), keepdim=True)) / waves.std(dim=(2, 3), keepdim=True)
    found: Tensor = (128 + 55 * waves).clamp(0, 255).to(torch.uint8)
    return found


def ours(images: Tensor, steps: list[Step], resolution: int) -> Views:
    labels, generator = torch.arange(len(images)) % 10, torch.Generator().manual_seed(0)
    return lambda: view(images, labels, steps, resolution=resolution, classes=10, generator=generator)[0]


def original(images: Tensor, resolution: int, folder: Path) -> Views:
    """Seed 000's: files, PIL, torchvision's transforms."""
    from torchvision import datasets, io, transforms

    where = folder / str(resolution) / "0"
    where.mkdir(parents=True)
    for number, image in enumerate(images):
        io.write_png(image, str(where / f"{number:04}.png"))
    steps = transforms.Compose(
        [
            transforms.RandomRotation(degrees=45),
            transforms.RandomResizedCrop(resolution),
            transforms.ColorJitter(JITTER, JITTER, JITTER, JITTER),
            transforms.RandomHorizontalFlip(),
            transforms.RandomVerticalFlip(),
            transforms.ToTensor(),
        ]
    )
    found = datasets.ImageFolder(str(where.parent), steps)
    return lambda: torch.stack([found[k][0] for k in range(len(found))])


def torchvision_v2(images: Tensor, resolution: int) -> Views:
    from torchvision.transforms import v2

    steps = v2.Compose(
        [
            v2.RandomRotation(45, interpolation=v2.InterpolationMode.BILINEAR),
            v2.RandomResizedCrop(resolution, antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.ColorJitter(JITTER, JITTER, JITTER, JITTER),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
        ]
    )
    return lambda: torch.stack([steps(image) for image in images])


def kornia(images: Tensor, resolution: int) -> Views:
    import kornia.augmentation as k

    steps = k.AugmentationSequential(
        k.RandomRotation(45.0, p=1.0),
        k.RandomResizedCrop((resolution, resolution), p=1.0),
        k.ColorJitter(JITTER, JITTER, JITTER, JITTER, p=1.0),
        k.RandomHorizontalFlip(),
        k.RandomVerticalFlip(),
    )
    return lambda: steps(images.float() / 255)


def albumentations(images: Tensor, resolution: int) -> Views:
    import albumentations as a
    import cv2
    import numpy as np

    cv2.setNumThreads(torch.get_num_threads())
    steps = a.Compose(
        [
            a.Rotate(45, p=1.0),
            a.RandomResizedCrop((resolution, resolution), p=1.0),
            a.ColorJitter(
                brightness=(1 - JITTER, 1 + JITTER),
                contrast=(1 - JITTER, 1 + JITTER),
                saturation=(1 - JITTER, 1 + JITTER),
                hue=(-JITTER, JITTER),
                p=1.0,
            ),
            a.HorizontalFlip(),
            a.VerticalFlip(),
        ]
    )
    stored = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]

    def views() -> Tensor:
        seen = np.stack([steps(image=image)["image"] for image in stored])
        return torch.from_numpy(seen).permute(0, 3, 1, 2).float() / 255

    return views


def contenders(images: Tensor, resolution: int, folder: Path) -> dict[str, Views]:
    found: dict[str, Views] = {
        "budgetnet": ours(images, RECIPE, resolution),
        "budgetnet, torchvision's HSV hue": ours(images, EXACT, resolution),
        "the original's (ImageFolder, PIL)": original(images, resolution, folder),
        "torchvision v2, tensors": torchvision_v2(images, resolution),
    }
    for name, make in (("kornia", kornia), ("albumentations", albumentations)):
        with contextlib.suppress(ImportError):
            found[name] = make(images, resolution)
    return found | {f"budgetnet: {name}": ours(images, steps, resolution) for name, steps in OTHERS.items()}


def paces(batch: int, rounds: int) -> list[list[str]]:
    images, rows = photos(batch), []
    with tempfile.TemporaryDirectory() as folder:
        for resolution in (70, 120):
            ready = contenders(images, resolution, Path(folder))
            found: dict[str, list[float]] = {name: [] for name in ready}
            for number in range(rounds + 1):
                for name, views in ready.items():
                    begun = time.process_time()
                    views()
                    if number:
                        found[name].append(batch / (time.process_time() - begun))
            seed = found["the original's (ImageFolder, PIL)"]
            for name, pace in found.items():
                ratio = statistics.median(a / b for a, b in zip(pace, seed, strict=True))
                spread = f"{min(pace):,.0f} to {max(pace):,.0f}"
                rows.append(
                    [str(resolution), name, f"{statistics.median(pace):,.0f}", spread, f"{ratio:.1f}x"]
                )
    return rows


def figures(views: Tensor) -> dict[str, Tensor]:
    """What is compared, a number a view."""
    grey = views.mean(dim=1)
    return {
        "brightness": grey.mean(dim=(1, 2)),
        "contrast": grey.std(dim=(1, 2)),
        "saturation": (views.amax(dim=1) - views.amin(dim=1)).mean(dim=(1, 2)),
        "sharpness": grey.diff(dim=2).abs().mean(dim=(1, 2)),
        "red share": views[:, 0].mean(dim=(1, 2)) - grey.mean(dim=(1, 2)),
        "black": (grey < 1 / 255).float().mean(dim=(1, 2)),
    }


def distance(one: Tensor, other: Tensor) -> float:
    """The 1-Wasserstein distance of two samples of equal size."""
    return float((one.sort().values - other.sort().values).abs().mean())


def differences(batch: int, rounds: int) -> list[list[str]]:
    images, rows = photos(batch), []
    for resolution in (70, 120):
        makers: dict[str, Any] = {
            "view": ours(images, RECIPE, resolution),
            "with exact hue": ours(images, EXACT, resolution),
            "torchvision": torchvision_v2(images, resolution),
            "torchvision again": torchvision_v2(images, resolution),
        }
        seen = {name: [figures(make()) for _ in range(rounds)] for name, make in makers.items()}
        joined = {
            name: {figure: torch.cat([one[figure] for one in many]) for figure in many[0]}
            for name, many in seen.items()
        }
        for figure, theirs in joined["torchvision"].items():
            unit = float(theirs.std())
            cells = [
                f"{distance(joined[name][figure], theirs) / unit:.3f}"
                for name in ("view", "with exact hue", "torchvision again")
            ]
            rows.append([str(resolution), figure, *cells])
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--difference", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    warnings.filterwarnings("ignore")
    where = machine("torchvision", "Pillow", "kornia", "albumentations")
    size = f"96 px stored, batches of {asked.batch}, n = {asked.rounds}"
    if asked.difference:
        rows = differences(asked.batch, asked.rounds)
        columns = ["to px", "of each view", "view", "with exact_hue", "torchvision again"]
        told = f"Wasserstein distance to torchvision v2's views, in its standard deviations; {size}; {where}"
        publish("difference", columns, rows, told=told, left=2, write=asked.write)
        return
    columns = ["to px", "what", "images/s of CPU", "from to", "to the original's"]
    told = f"{size} batches each in turn; {where}"
    publish("views", columns, paces(asked.batch, asked.rounds), told=told, left=2, write=asked.write)


if __name__ == "__main__":
    main()
