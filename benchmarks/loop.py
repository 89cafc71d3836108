"""Times Trainer.fit against the best hand-written loop for the job, side by side on a CPU.

    python benchmarks/loop.py [--rounds 20] [--threads 1] [--write]

5,000 images of 32 x 32 in memory, batches of 64, one epoch and its validation on 1,000 images a round, after
one that is not counted. The hand-written loop keeps its images as prepared floats and slices them; the
mathematics and the metrics are the same.
"""

import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from report import arguments, machine, publish
from torch import Tensor, nn

from budgetnet import Budget, Phase, Recipe, Trainer, arrays, models
from budgetnet.data import Data
from budgetnet.optim import SGD

IMAGES, HELD_OUT, BATCH = 5000, 1000, 64


def tiny(classes: int) -> nn.Module:
    """Two strided convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, stride=4),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


def small(classes: int) -> nn.Module:
    """A plain convolutional network."""
    return models.convnet(classes, widths=(16, 32, 64))


NETWORKS = {"tiny": tiny, "small": small}


def made(network: Callable[[int], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return Budget("2M").build(network, 10)


def photos() -> Data:
    generator = torch.Generator().manual_seed(0)
    count = IMAGES + HELD_OUT
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return arrays(images[:IMAGES], labels[:IMAGES], val=(images[IMAGES:], labels[IMAGES:]))


class ByHand:
    """What a careful user writes: prepared floats, slices of a permutation, sums kept on the device."""

    def __init__(self, model: nn.Module, data: Data) -> None:
        assert data.val is not None
        self.model = model.to(memory_format=torch.channels_last)
        self.train = (self._ready(data.train[:][0]), data.train.labels)
        self.val = (self._ready(data.val[:][0]), data.val.labels)
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
        )

    @staticmethod
    def _ready(images: Tensor) -> Tensor:
        return (images.float() / 255).contiguous(memory_format=torch.channels_last)

    def epoch(self) -> tuple[float, ...]:
        images, labels = self.train
        self.model.train()
        sums = torch.zeros(2)
        order = torch.randperm(len(images))
        steps = len(images) // BATCH
        for i in range(steps):
            rows = order[i * BATCH : (i + 1) * BATCH]
            truth = labels[rows]
            logits = self.model(images[rows])
            loss = F.cross_entropy(logits, truth)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            sums[0] += loss.detach()
            sums[1] += (logits.detach().argmax(dim=1) == truth).float().mean()
        found = [float(total) / steps for total in sums]
        self.model.eval()
        totals = torch.zeros(2)
        with torch.inference_mode():
            for some, truth in zip(torch.split(self.val[0], BATCH), torch.split(self.val[1], BATCH)):
                logits = self.model(some)
                totals[0] += F.cross_entropy(logits, truth, reduction="sum")
                totals[1] += (logits.argmax(dim=1) == truth).sum()
        return (*found, *(float(total) / len(self.val[0]) for total in totals))


Pair = tuple[float, float]


def timed(act: Callable[[], object]) -> Pair:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    data, rows = photos(), []
    for name, network in NETWORKS.items():
        paces = measured(network, data, asked.rounds if network is tiny else max(3, asked.rounds // 4))
        step = statistics.median(theirs[0] for _, theirs in paces) / (IMAGES // BATCH)
        for what, at in (("wall", 0), ("CPU", 1)):
            ratios = sorted(ours[at] / theirs[at] for ours, theirs in paces)
            spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
            rows.append([name, f"{1000 * step:.1f} ms", what, f"{statistics.median(ratios):.3f}x", spread])
    told = f"an epoch of each in turn, n = {asked.rounds} (small: {max(3, asked.rounds // 4)}); {machine()}"
    columns = ["network", "a step by hand", "time", "median ratio", "from to"]
    publish("loop", columns, rows, told=told, left=3, write=asked.write)


def measured(network: Callable[[int], nn.Module], data: Data, rounds: int) -> list[tuple[Pair, Pair]]:
    """Wall and CPU seconds of an epoch of ours and of theirs, in turn; the first two are not counted."""
    model = made(network)
    hand = ByHand(copy.deepcopy(model), data)
    phase = Phase(epochs=rounds + 1, resolution=32, lr=0.01)
    recipe = Recipe(phases=[phase], optimizer=SGD(), batch_size=BATCH)
    epochs = Trainer("cpu", precision="float32", show=False).epochs(model, data, recipe)
    paces = [(timed(lambda: next(epochs)), timed(hand.epoch)) for _ in range(rounds + 1)]
    return paces[1:]


if __name__ == "__main__":
    main()
