"""Times the augmentation of fixres_stl10 and its kin on stored 96-pixel images, in images a second of CPU.

python benchmarks/views.py [--threads 1] [--rounds 15]
"""

import argparse
import platform
import statistics
import time

import torch

from budgetnet.augment import Crop, Flip, Jitter, RandAugment, Rotate, Step, TrivialAugmentWide, view
from budgetnet.console import say, table

LISTS: dict[str, list[Step]] = {
    "fixres_stl10": [
        Rotate(45),
        Crop((0.08, 1.0)),
        Jitter(0.3, 0.3, 0.3, 0.3),
        Flip(),
        Flip(vertical=True),
    ],
    "the same, HSV hue": [
        Rotate(45),
        Crop((0.08, 1.0)),
        Jitter(0.3, 0.3, 0.3, 0.3, exact_hue=True),
        Flip(),
        Flip(vertical=True),
    ],
    "Crop, Flip": [Crop((0.08, 1.0)), Flip()],
    "Crop, RandAugment": [Crop((0.08, 1.0)), RandAugment()],
    "Crop, TrivialAugmentWide": [Crop((0.08, 1.0)), TrivialAugmentWide()],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=128)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    say(f"CPU, {asked.threads} threads, torch {torch.__version__}, Python {platform.python_version()}")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (asked.batch, 3, 96, 96), dtype=torch.uint8, generator=generator)
    labels = torch.arange(asked.batch) % 10
    rows = []
    for resolution in (70, 120):
        for name, steps in LISTS.items():
            paces = []
            for k in range(asked.rounds + 1):
                begun = time.process_time()
                view(images, labels, steps, resolution=resolution, classes=10, generator=generator)
                if k:
                    paces.append(asked.batch / (time.process_time() - begun))
            middle = statistics.median(paces)
            rows.append([str(resolution), name, f"{middle:,.0f}", f"{min(paces):,.0f} to {max(paces):,.0f}"])
    table(
        f"96 px stored, batch {asked.batch}, n = {asked.rounds}",
        ["to px", "steps", "images/s", "from to"],
        rows,
        left=2,
    )


if __name__ == "__main__":
    main()
