"""Measures the peak resident memory of a training, a fresh process each, and whether it grows over epochs.

    python benchmarks/memory.py [--images 5000] [--rounds 3]

Sides: an idle process that has imported the same, Trainer.fit, and a loop as seed 000 wrote it (an
ImageFolder of PNG files, torchvision's transforms, a DataLoader without workers), both with the same network,
optimizer and batches at 96 px. Then the resident memory of a tiny training after epoch 3 and after epoch 30.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from report import arguments, machine, publish, spread
from torch import Tensor, nn

from budgetnet import Data, Phase, Recipe, Split, Trainer, models
from budgetnet.augment import Crop, Flip
from budgetnet.reporting import save_png

SIDE, BATCH = 96, 64
SIDES = ("idle", "fit", "seed")


def network() -> nn.Module:
    return models.convnet(classes=10, widths=(16, 32))


def split(images: int, side: int = SIDE) -> Split:
    generator = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8, generator=generator)
    numbers = torch.arange(images)
    return Split(stored, numbers % 10, numbers)


def fit(images: int) -> None:
    data = Data(split(images), None, None, tuple(str(k) for k in range(10)), "noise")
    recipe = Recipe([Phase(1, SIDE, 0.01, augment=[Crop(), Flip()])], batch_size=BATCH)
    Trainer("cpu", out=None, show=False).fit(network(), data, recipe)


def seed(folder: str) -> None:
    """The seed's loop: files, PIL, a DataLoader."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = [transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    loader = torch.utils.data.DataLoader(
        ImageFolder(folder, transforms.Compose(steps)), batch_size=BATCH, shuffle=True, drop_last=True
    )
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for images, labels in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def write_folder(folder: Path, images: int) -> None:
    stored = split(images)
    for number, (image, label) in enumerate(zip(stored[:][0], stored.labels.tolist())):
        place = folder / str(label)
        place.mkdir(exist_ok=True)
        save_png(image, place / f"{number}.png")


def resident() -> float:
    """Megabytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def growth() -> None:
    """Print the resident memory after each epoch of a tiny training."""
    data = Data(split(200, 12), split(50, 12), None, tuple(str(k) for k in range(10)), "noise")
    recipe = Recipe([Phase(30, 12, 0.01, augment=[Flip()])], batch_size=50, keep="best")
    for _ in Trainer("cpu", out=None, show=False).epochs(network(), data, recipe):
        print(resident())


def peak(side: str, images: int, folder: Path) -> float:
    """Peak resident megabytes of a fresh process."""
    call = [sys.executable, __file__, "--side", side, "--images", str(images), "--folder", str(folder)]
    return float(subprocess.run(call, check=True, capture_output=True, text=True).stdout.split()[-1])


def one_side(side: str, images: int, folder: str) -> None:
    torch.set_num_threads(1)
    if side == "growth":
        growth()
        return
    # All import the same.
    import torchvision.datasets

    assert torchvision.datasets is not None
    if side == "fit":
        fit(images)
    elif side == "seed":
        seed(folder)
    else:
        network()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def bytes_of(tensors: list[Tensor]) -> float:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=[*SIDES, "growth"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        one_side(asked.side, asked.images, asked.folder)
        return
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), asked.images)
        for _ in range(asked.rounds):
            for side in SIDES:
                found[side].append(peak(side, asked.images, Path(folder)))
    idle = statistics.median(found["idle"])
    rows = [
        [side, spread(peaks, "{:.0f}"), f"{statistics.median(peaks) - idle:.0f}"]
        for side, peaks in found.items()
    ]
    data = asked.images * 3 * SIDE**2 / 1e6
    weights = 3 * bytes_of([*network().parameters()])
    call = [sys.executable, __file__, "--side", "growth"]
    epochs = [float(line) for line in subprocess.check_output(call, text=True).split()]
    told = (
        f"a process each, n = {asked.rounds}; {asked.images:,} images of {SIDE} px are {data:.0f} MB, "
        f"weights, gradients and momentum {weights:.1f} MB; resident after epoch 3 of a small job "
        f"{epochs[2]:.1f} MB, after epoch 30 {epochs[-1]:.1f} MB; {machine()}"
    )
    columns = ["side", "peak resident MB", "beyond idle"]
    publish("memory", columns, rows, told=told, write=asked.write)


if __name__ == "__main__":
    main()
