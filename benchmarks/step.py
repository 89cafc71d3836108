"""Times a training step of fixres_stl10's network for each memory format and precision, side by side.

    python benchmarks/step.py [--resolutions 70 120] [--batch 32] [--rounds 5] [--threads 1] [--write]

One step of each variant in turn, again and again: medians of CPU time (of wall time on CUDA), and ratios to
the original project's way, which is eager float32 with torch's plain Adam. All others have the fused one.
"""

import statistics
import time

import torch
import torch.nn.functional as F
from report import arguments, machine, publish
from torch import Tensor, nn

from budgetnet import Adam
from budgetnet.plan import read_plan

ORIGINAL = "the original's: float32"
VARIANTS = {
    ORIGINAL: (torch.contiguous_format, False),
    "float32": (torch.contiguous_format, False),
    "bf16": (torch.contiguous_format, True),
    "float32, channels_last": (torch.channels_last, False),
    "bf16, channels_last": (torch.channels_last, True),
}


def step(
    model: nn.Module, images: Tensor, labels: Tensor, half: bool, optimizer: torch.optim.Optimizer
) -> None:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
        logits = model(images)
    F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if images.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--resolutions", nargs="+", type=int, default=[70, 120])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    plan = read_plan("fixres_stl10")
    rows = []
    for resolution in asked.resolutions:
        images = torch.rand(asked.batch, 3, resolution, resolution, device=asked.device)
        labels = torch.arange(asked.batch, device=asked.device) % 10
        ready = {}
        for name, (memory_format, half) in VARIANTS.items():
            model = plan.model().to(asked.device)
            model.to(memory_format=memory_format)
            given = images.contiguous(memory_format=memory_format)
            optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
            if name != ORIGINAL:
                optimizer = Adam()(model.parameters())
            ready[name] = (model, given, labels, half, optimizer)
            step(*ready[name])
        clock = time.process_time if asked.device == "cpu" else time.perf_counter
        seconds: dict[str, list[float]] = {name: [] for name in ready}
        for _ in range(asked.rounds):
            for name, variant in ready.items():
                begun = clock()
                step(*variant)
                seconds[name].append(clock() - begun)
        plain = statistics.median(seconds[ORIGINAL])
        for name, found in seconds.items():
            middle = statistics.median(found)
            spread = f"{asked.batch / max(found):,.0f} to {asked.batch / min(found):,.0f}"
            rows.append(
                [str(resolution), name, f"{asked.batch / middle:,.1f}", spread, f"{plain / middle:.2f}x"]
            )
    told = f"batches of {asked.batch}, n = {asked.rounds} steps each in turn; {machine()}"
    columns = ["px", "what", "images/s", "from to", "to the original's"]
    publish("step", columns, rows, told=told, left=2, write=asked.write)


if __name__ == "__main__":
    main()
