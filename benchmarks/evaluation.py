"""Times Trainer.evaluate and Trainer.predict against the best hand-written loop, side by side.

    python benchmarks/evaluation.py [--rounds 9] [--images 1024] [--threads 1] [--device cuda] [--write]

Both sides have the same model, images in memory, inference mode, channels_last and batches; the loop slices
its batches, and of an evaluation it computes loss, accuracy, top-5 and the confusion matrix too. Each in
turn, again and again; ratios are of the two neighbours in time. On a GPU there are 40 times as many images by
default, in float32, and they lie there; it has a table of its own.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from report import arguments, machine, publish, spread
from torch import Tensor, nn

from budgetnet import Split, Trainer, models
from budgetnet.augment import test_view

CLASSES = 10
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "tiny": lambda: models.convnet(classes=CLASSES, widths=(8, 16)),
    "small": lambda: models.convnet(classes=CLASSES, widths=(32, 64, 128)),
}


def batches(images: Tensor, size: int, resolution: int) -> Iterator[Tensor]:
    """Float batches, as the fastest loop makes them: resized only where that is needed."""
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        if batch.shape[-1] != resolution:
            batch = test_view(batch, resize=resolution, crop=resolution)
        else:
            batch = batch.float().mul_(1 / 255)
        yield batch.contiguous(memory_format=torch.channels_last)


def evaluated(model: nn.Module, split: Split, size: int, resolution: int) -> tuple[float, float]:
    """Accuracy and loss by hand, with what else an evaluation tells."""
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=split.device)
    top5 = torch.zeros((), dtype=torch.int64, device=split.device)
    confusion = torch.zeros(CLASSES * CLASSES, dtype=torch.int64, device=split.device)
    with torch.inference_mode():
        for at, images in enumerate(batches(split[:][0], size, resolution)):
            labels = split.labels[at * size : at * size + len(images)]
            logits = model(images)
            loss += F.cross_entropy(logits, labels, reduction="sum")
            best = logits.topk(5, dim=1).indices
            top5 += (best == labels[:, None]).sum()
            # bincount would wait for a GPU.
            confusion.scatter_add_(0, labels * CLASSES + best[:, 0], torch.ones_like(labels))
    right = confusion.view(CLASSES, CLASSES).diagonal().sum()
    return float(right) / len(split), float(loss) / len(split)


def predicted(model: nn.Module, split: Split, size: int, resolution: int) -> Tensor:
    """Probabilities (N, K) by hand."""
    model.eval()
    with torch.inference_mode():
        found = [model(images).softmax(dim=1) for images in batches(split[:][0], size, resolution)]
        return torch.cat(found).cpu()


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor and of the clock."""
    begun, spent = time.perf_counter(), time.process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time() - spent, time.perf_counter() - begun


def compared(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> list[list[float]]:
    """(our seconds, ratio of CPU times, ratio of wall times) a round; who is first changes by turns."""
    found: list[list[float]] = []
    for number in range(rounds + 1):
        if number % 2:
            mine, hand = timed(ours), timed(theirs)
        else:
            hand, mine = timed(theirs), timed(ours)
        if number:
            found.append([mine[0], mine[0] / hand[0], mine[1] / hand[1]])
    return [list(column) for column in zip(*found)]


def main() -> None:
    parser = arguments(__doc__)
    for name, value in (("rounds", 9), ("images", None), ("batch", 256)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    on_cuda = torch.device(asked.device).type == "cuda"
    asked.images = asked.images or (40960 if on_cuda else 1024)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (asked.images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    numbers = torch.arange(asked.images)
    trainer = Trainer(asked.device, precision="float32", out=None, show=False)
    split = Split(images, numbers % CLASSES, numbers).to(trainer.device)
    classes = [str(k) for k in range(CLASSES)]
    rows = []
    for name, make in NETWORKS.items():
        torch.manual_seed(0)
        model = make().to(device=trainer.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        for size in (32, 24):
            options = {"classes": classes, "resolution": size, "batch_size": asked.batch}
            works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
                "evaluate": (
                    partial(trainer.evaluate, model, split, **options),
                    partial(evaluated, model, split, asked.batch, size),
                ),
                "predict": (
                    partial(trainer.predict, model, split, **options),
                    partial(predicted, model, split, asked.batch, size),
                ),
            }
            for work, (ours, theirs) in works.items():
                spent, ratios, walls = compared(ours, theirs, asked.rounds)
                pace = f"{asked.images / statistics.median(spent):,.0f}"
                rows.append([name, f"{size} of 32", work, pace, spread(ratios), spread(walls)])
    told = f"{asked.images:,} images, batches of {asked.batch}, n = {asked.rounds}, medians (middle half); "
    columns = ["network", "px", "", "images/s of CPU", "CPU, against the loop", "wall, against the loop"]
    section = "evaluation-gpu" if on_cuda else "evaluation"
    publish(section, columns, rows, told=told + machine(), left=3, write=asked.write)


if __name__ == "__main__":
    main()
