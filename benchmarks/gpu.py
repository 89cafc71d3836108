"""Measures fixres_stl10's training on one GPU, in images a second, beside two other loops.

    python benchmarks/gpu.py [--data DIR] [--seconds 20] [--rounds 3] [--px 70] [--write]

At 70 and at 120 pixels, in turn, n rounds of so many seconds each after one that is not counted:

- `Trainer`, at each of its speeds;
- (a) the original's: PNG files, PIL, torchvision's transforms, an ImageFolder, a DataLoader with a worker for
  each core, eager float32;
- (b) a loop tuned by hand for this network: bf16, channels_last, torch.compile with CUDA graphs, data on the
  device, and an augmentation of its own that draws there and is compiled too.

The floor is the time in which the step's tensors could move once at the memory's measured speed, or its
multiply-accumulates be done at the measured pace of a large product, whichever is longer. Without --data the
images are noise, which costs the same. On a CPU it needs --device cpu and says nothing about a GPU.
"""

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from report import arguments, machine, publish
from torch import Tensor, nn

from budgetnet import Data, Trainer, arrays, ledger
from budgetnet.plan import Plan, read_plan
from budgetnet.recipe import Phase, Recipe


def noise(count: int) -> Data:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 96, 96), dtype=torch.uint8, generator=generator)
    return arrays(images, torch.arange(count) % 10)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def ours(plan: Plan, data: Data, phase: Phase, device: torch.device, speed: Any) -> Iterator[int]:
    """Epochs of `Trainer`, a few passes over the images each; validation is left out."""
    long = Phase(**{**vars(phase), "epochs": 10_000, "views": 4, "lr": 1e-4})
    recipe = Recipe(**{**vars(plan.recipe), "phases": [long]})
    only = Data(data.train, None, None, data.classes, data.name)
    trainer = Trainer(device, speed=speed, out=None, show=False)
    for epoch in trainer.epochs(plan.model(), only, recipe):
        yield epoch.images


def original(plan: Plan, data: Data, phase: Phase, device: torch.device, folder: Path) -> Iterator[int]:
    from torchvision import datasets, io, transforms

    where = folder / str(phase.last_resolution)
    images, labels = data.train[:]
    for number, (image, label) in enumerate(zip(images, labels.tolist())):
        place = where / str(label)
        place.mkdir(parents=True, exist_ok=True)
        io.write_png(image, str(place / f"{number:05}.png"))
    steps = transforms.Compose(
        [
            transforms.RandomRotation(degrees=45),
            transforms.RandomResizedCrop(phase.last_resolution),
            transforms.ColorJitter(0.3, 0.3, 0.3, 0.3),
            transforms.RandomHorizontalFlip(),
            transforms.RandomVerticalFlip(),
            transforms.ToTensor(),
        ]
    )
    size = phase.batch_size or plan.recipe.batch_size
    workers = len(os.sched_getaffinity(0))
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(where), steps), size, shuffle=True, num_workers=workers, drop_last=True
    )
    model = plan.model().to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-4)
    correct = 0.0
    while True:
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            # Read every step, as there.
            correct += float((logits.argmax(dim=1) == labels).float().mean()) + float(loss.detach())
            yield len(images)


def draw_and_read(images: Tensor, size: int) -> Tensor:
    """The same kinds of views as a specialist would write them: uint8 to float (B, 3, r, r)."""
    count, device = len(images), images.device
    draws = torch.rand(12, count, device=device)
    angle = (draws[0] - 0.5) * (torch.pi / 2)
    area = (0.08 + 0.92 * draws[1]).sqrt()
    ratio = torch.exp((draws[2] - 0.5) * 0.5754)
    across, down = (area * ratio).clamp(max=1), (area / ratio).clamp(max=1)
    x, y = (2 * draws[3] - 1) * (1 - across), (2 * draws[4] - 1) * (1 - down)
    across = torch.where(draws[5] < 0.5, across, -across)
    down = torch.where(draws[6] < 0.5, down, -down)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * across, -sin * down, cos * x - sin * y, sin * across, cos * down, sin * x + cos * y]
    maps = torch.stack(rows, dim=1).view(count, 2, 3)
    grid = F.affine_grid(maps, [count, 3, size, size], align_corners=False)
    seen = F.grid_sample(images.float() / 255, grid, align_corners=False)
    gain = 0.7 + 0.6 * draws[7:10]
    turn = (draws[10] - 0.5) * (0.6 * 2 * torch.pi)
    third = torch.full((3, 3), 1 / 3, device=device)
    same = torch.eye(3, device=device)
    skew = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=device) / 3**0.5
    hue = turn.cos()[:, None, None] * (same - third) + third + turn.sin()[:, None, None] * skew
    grey = gain[1][:, None, None] * same + (1 - gain[1][:, None, None]) * third
    colours = gain[0][:, None, None] * (hue @ grey)
    mean = seen.mean(dim=(1, 2, 3), keepdim=True)
    seen = gain[2][:, None, None, None] * (seen - mean) + mean
    return torch.einsum("bij,bjhw->bihw", colours, seen).clamp(0, 1)


def tuned(plan: Plan, data: Data, phase: Phase, device: torch.device, mode: str) -> Iterator[int]:
    model = plan.model().to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    size = phase.batch_size or plan.recipe.batch_size
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-4, fused=True)
    stored, truth = (tensor.to(device) for tensor in data.train[:])
    on_cuda = device.type == "cuda"
    options: dict[str, Any] = {"mode": mode, "dynamic": False} if on_cuda else {"backend": "eager"}
    views = torch.compile(draw_and_read, **options)

    def losses(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(images.contiguous(memory_format=torch.channels_last))
        return F.cross_entropy(logits.float(), labels)

    compiled = torch.compile(losses, **options)
    while True:
        order = torch.randperm(len(stored), device=device)
        for rows in torch.split(order[: len(order) // size * size], size):
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            images = views(stored[rows], phase.last_resolution).clone()
            compiled(images, truth[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield size


def pace(steps: Iterator[int], seconds: float, device: torch.device) -> float:
    """Images a second over at least so many seconds."""
    wait(device)
    begun, images = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        images += next(steps)
        if images % 4096 < 128:
            wait(device)
    wait(device)
    return images / (time.perf_counter() - begun)


def floor(model: nn.Module, resolution: int, device: torch.device) -> tuple[float, str]:
    """Images a second that memory and arithmetic would allow, and how that comes."""
    found = ledger(model, resolution)
    numbers = sum(row.activation_bytes or 0 for row in found.rows if row.name and _leaf(model, row.name)) / 4
    # Forward: written once, read once. Backward: its input and output read, its gradients written and read.
    traffic = 2 * numbers * 6
    big = torch.empty(1 << 28, dtype=torch.uint8, device=device)
    other = torch.empty_like(big)
    bandwidth = 2 * big.numel() / _best(lambda: other.copy_(big), device)
    side = 8192 if device.type == "cuda" else 512
    square = torch.randn(side, side, dtype=torch.bfloat16, device=device)
    pace_of_products = side**3 / _best(lambda: square @ square, device)
    by_memory, by_products = bandwidth / traffic, pace_of_products / (3 * (found.macs or 1))
    words = (
        f"{bandwidth / 1e12:.2f} TB/s and {2 * pace_of_products / 1e12:.0f} TFLOP/s measured; "
        f"{traffic / 1e6:.1f} MB and {3 * (found.macs or 0) / 1e9:.2f} GMACs an image"
    )
    return min(by_memory, by_products), words


def _leaf(model: nn.Module, name: str) -> bool:
    return not list(model.get_submodule(name).children())


def _best(act: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(12):
        wait(device)
        begun = time.perf_counter()
        act()
        wait(device)
        times.append(time.perf_counter() - begun)
    return min(times)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", help="the folder that holds stl10_binary; by default noise")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--px", type=int, nargs="+", help="only the phases that end at these resolutions")
    parser.add_argument(
        "--tuned", default="max-autotune", help="torch.compile's mode of (b); reduce-overhead is ready sooner"
    )
    parser.add_argument("--speeds", nargs="+", default=["eager", "compile", "graphs"])
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py needs a CUDA GPU, and none was found; --device cpu tries it out")
    device = torch.device(asked.device)
    plan = read_plan("fixres_stl10")
    if asked.data:
        os.environ["BUDGETNET_DATA"] = asked.data
    data = plan.data() if asked.data else noise(asked.images)
    rows, words = [], []
    with tempfile.TemporaryDirectory() as folder:
        for phase in plan.recipe.phases:
            if asked.px and phase.last_resolution not in asked.px:
                continue
            makers: dict[str, Iterator[int]] = {
                "(a) the original's loop": original(plan, data, phase, device, Path(folder)),
                "(b) tuned by hand": tuned(plan, data, phase, device, asked.tuned),
            }
            for speed in asked.speeds:
                makers[f"Trainer, {speed}"] = ours(plan, data, phase, device, speed)
            found = measured(makers, asked.rounds, asked.seconds, device)
            most, how = floor(plan.model().to(device), phase.last_resolution, device)
            words.append(f"{phase.last_resolution} px: {how}")
            rows += table_of(found, phase.last_resolution, most)
    columns = ["px", "what", "images/s", "from to", "of (a)", "of (b)", "of the floor"]
    how = f"n = {asked.rounds} rounds of {asked.seconds:g} s in turn; (b) by {asked.tuned}"
    told = f"{how}; {machine()}; {'; '.join(words)}"
    publish("gpu", columns, rows, told=told, left=2, write=asked.write)


def measured(
    makers: dict[str, Iterator[int]], rounds: int, seconds: float, device: torch.device
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in makers}
    for number, (name, steps) in itertools.product(range(rounds + 1), makers.items()):
        images = pace(steps, seconds, device)
        if number:
            found[name].append(images)
    return found


def table_of(found: dict[str, list[float]], resolution: int, most: float) -> list[list[str]]:
    rows = []
    for name, paces in found.items():
        middle = statistics.median(paces)
        cells = [str(resolution), name, f"{middle:,.0f}", f"{min(paces):,.0f} to {max(paces):,.0f}"]
        for other in ("(a) the original's loop", "(b) tuned by hand"):
            ratio = statistics.median(a / b for a, b in zip(paces, found[other], strict=True))
            cells.append(f"{ratio:.2f}x")
        rows.append([*cells, f"{middle / most:.3f}"])
    return rows


if __name__ == "__main__":
    main()
