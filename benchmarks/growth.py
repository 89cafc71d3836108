"""Times an epoch on 1,000 to 100,000 images in memory: is it linear in their number?

    python benchmarks/growth.py [--images 1000 10000 100000] [--rounds 5] [--side 32] [--batch 100]

Each round is one training of each size in turn, of as many epochs as give the largest size's number of images
(at most --epochs); of each training the median epoch counts, its validation and bookkeeping included. Prints
microseconds of CPU time for each image, medians over rounds, and ratios to the smallest size. --checks adds
what comes before the first step: the guard, fingerprints, statistics.
"""

import argparse
import statistics
import time

import torch
from report import arguments, machine, publish

from budgetnet import SGD, Budget, Data, Phase, Recipe, Trainer, arrays, models


def made(count: int, side: int) -> Data:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(
        0, 256, (count + count // 10, 3, side, side), generator=generator, dtype=torch.uint8
    )
    labels = torch.arange(len(images)) % 10
    return arrays(images[:count], labels[:count], val=(images[count:], labels[count:]))


def trained(data: Data, epochs: int, asked: argparse.Namespace) -> tuple[float, float]:
    """CPU seconds of the median epoch, and of what comes before the first."""
    model = Budget(params="20k").build(models.convnet, classes=10, widths=(4, 8))
    recipe = Recipe([Phase(epochs, asked.resolution, 0.01)], SGD(), batch_size=asked.batch)
    begun = time.process_time()
    found = iter(Trainer("cpu", out=None, show=False).epochs(model, data, recipe))
    before, seconds = time.process_time() - begun, []
    for _ in range(epochs):
        begun = time.process_time()
        next(found)
        seconds.append(time.process_time() - begun)
    # The first one sets the training up.
    return statistics.median(seconds[1:] or seconds), before


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--resolution", type=int, default=16)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--checks", action="store_true", help="show what comes before the first step too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sets = {count: made(count, asked.side) for count in asked.images}
    # One small training first: it imports what torch imports at its first step.
    trained(made(1_000, asked.side), 2, asked)
    each: dict[int, list[float]] = {count: [] for count in sets}
    before: dict[int, list[float]] = {count: [] for count in sets}
    for _ in range(asked.rounds):
        for count, data in sets.items():
            epochs = min(asked.epochs, max(2, max(sets) // count))
            seconds, checks = trained(data, epochs, asked)
            each[count].append(1e6 * seconds / count)
            before[count].append(checks)
    plain = statistics.median(each[asked.images[0]])
    rows = []
    for count, found in each.items():
        middle = statistics.median(found)
        ratios = [one / first for one, first in zip(found, each[asked.images[0]])]
        row = [
            f"{count:,}",
            f"{middle:.1f}",
            f"{min(found):.1f} to {max(found):.1f}",
            f"{middle / plain:.3f}x",
        ]
        row.append(f"{statistics.median(ratios):.3f}x")
        rows.append([*row, f"{statistics.median(before[count]):.2f}"] if asked.checks else row)
    head = ["images", "CPU us/image", "from to", "against the first", "median of rounds' ratios"]
    head += ["s before"] if asked.checks else []
    told = (
        f"one epoch and its validation, {asked.side} px seen at {asked.resolution} px, batches of "
        f"{asked.batch}, n = {asked.rounds} each; {machine()}"
    )
    publish("growth", head, rows, told=told, left=0, write=asked.write)


if __name__ == "__main__":
    main()
